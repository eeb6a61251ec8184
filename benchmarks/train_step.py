"""One ALTA training step at the published size against a yardstick in the same run.

    python -m benchmarks.train_step [--rounds 3]

Yardstick: forward and backward of one timm ViT-B/16, batch 16, 224 px, float32, all weights trainable. Step: forward
and backward of the four losses, batch 16, four images a study, 30 to 120 tokens a report, what the paper trains
trainable, dropout as in training; weights are random, for speed only. The three are timed in turn, round by round;
medians count.
Last line: JSON, steps in yardsticks.
"""

import argparse
import json
import resource
import statistics
import time
from collections.abc import Callable

import torch

from model.alta import ALTA, ALTAConfig
from model.losses import TrainingBatch
from model.training.config import BaseConfig, TrainConfig
from model.training.distributed import World
from model.training.objectives import choose_trainable
from model.training.optimizer import make_optimizer
from model.training.step import Update

BATCH = 16


def batch() -> TrainingBatch:
    draw = torch.Generator().manual_seed(0)
    lengths = torch.randint(30, 121, (BATCH, 1), generator=draw)
    width = int(lengths.max())
    attention_mask = (torch.arange(width) < lengths).long()
    input_ids = torch.randint(5, 30000, (BATCH, width), generator=draw) * attention_mask
    masked = (torch.rand(BATCH, width, generator=draw) < 0.5) & attention_mask.bool()
    return TrainingBatch(
        target=torch.randn(BATCH, 1, 448, 448, generator=draw),
        others=torch.randn(BATCH, 3, 1, 224, 224, generator=draw),
        present=torch.ones(BATCH, 4, dtype=torch.bool),
        input_ids=input_ids,
        attention_mask=attention_mask,
        masked_input_ids=torch.where(masked, 4, input_ids),
        labels=torch.where(masked, input_ids, -100),
        noise=torch.rand(BATCH, 4, 196, generator=draw),
    )


def yardstick() -> Callable[[], object]:
    import timm  # after the model, which mends a torchvision that does not fit torch

    model = timm.create_model("vit_base_patch16_224", num_classes=0).train()
    images = torch.randn(BATCH, 3, 224, 224)

    def run() -> None:
        model.zero_grad(set_to_none=True)
        model(images).sum().backward()

    return run


def step(model: ALTA, precision: str) -> Callable[[], object]:
    # The base is named, not read: the weights are random.
    config = TrainConfig("speed", precision=precision, base=BaseConfig(checkpoint="-"))
    update = Update(model, make_optimizer(model, config.optim), config, World())
    data = batch()

    def run() -> None:
        model.train()
        model.zero_grad(set_to_none=True)
        update.backward(data, seed=1)

    return run


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    model = ALTA(ALTAConfig())
    choose_trainable(model, "alta")
    runs = {"yardstick": yardstick(), "float32": step(model, "float32"), "bf16": step(model, "bfloat16")}
    times: dict[str, list[float]] = {name: [] for name in runs}
    for number in range(options.rounds + 1):
        for name, run in runs.items():
            started = time.perf_counter()
            run()
            if number:  # the first round warms up
                times[name].append(time.perf_counter() - started)
    middle = {name: statistics.median(values) for name, values in times.items()}
    for name, values in times.items():
        print(f"{name:<10} {middle[name]:6.2f} s ({min(values):.2f} to {max(values):.2f})")
    print(
        json.dumps(
            {
                "yardstick_s": round(middle["yardstick"], 3),
                "step_float32": round(middle["float32"] / middle["yardstick"], 3),
                "step_bf16": round(middle["bf16"] / middle["yardstick"], 3),
                "studies_per_s": round(BATCH / min(middle["float32"], middle["bf16"]), 2),
                "peak_mb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024),
            }
        )
    )


if __name__ == "__main__":
    main()
