"""One ALTA training step at the published size against a yardstick in the same run.

    python -m benchmarks.train_step [--rounds 3] [--device cuda --batch 96 --peak-tflops 989]

Yardstick: forward and backward of one timm ViT-B/16, batch 16, 224 px, float32, all weights trainable. Step: forward
and backward of the four losses, batch 16, four images a study, 30 to 120 tokens a report, what the paper trains
trainable, dropout as in training; weights are random, for speed only. The three are timed in turn, round by round;
medians count. Operations are counted as ``alta train --estimate`` counts them: none for padding.
Last line: JSON, steps in yardsticks.
"""

import argparse
import json
import resource
import statistics
import time
from collections.abc import Callable
from typing import Literal

import torch

from model.alta import ALTA, ALTAConfig
from model.losses import TrainingBatch
from model.training.config import BaseConfig, TrainConfig
from model.training.distributed import World
from model.training.flops import training_flops
from model.training.objectives import choose_trainable
from model.training.optimizer import make_optimizer
from model.training.step import Update
from model.training.workload import workload_of

BATCH = 16


def random_batch(size: int) -> TrainingBatch:
    draw = torch.Generator().manual_seed(0)
    lengths = torch.randint(30, 121, (size, 1), generator=draw)
    width = int(lengths.max())
    attention_mask = (torch.arange(width) < lengths).long()
    input_ids = torch.randint(5, 30000, (size, width), generator=draw) * attention_mask
    masked = (torch.rand(size, width, generator=draw) < 0.5) & attention_mask.bool()
    return TrainingBatch(
        target=torch.randn(size, 1, 448, 448, generator=draw),
        others=torch.randn(size, 3, 1, 224, 224, generator=draw),
        present=torch.ones(size, 4, dtype=torch.bool),
        input_ids=input_ids,
        attention_mask=attention_mask,
        masked_input_ids=torch.where(masked, 4, input_ids),
        labels=torch.where(masked, input_ids, -100),
        noise=torch.rand(size, 4, 196, generator=draw),
    )


def yardstick(size: int, device: torch.device) -> Callable[[], object]:
    import timm  # after the model, which mends a torchvision that does not fit torch

    model = timm.create_model("vit_base_patch16_224", num_classes=0).to(device).train()
    images = torch.randn(size, 3, 224, 224, device=device)

    def run() -> None:
        model.zero_grad(set_to_none=True)
        model(images).sum().backward()

    return run


def config_of(precision: Literal["float32", "bfloat16"]) -> TrainConfig:
    # The base is named, not read: the weights are random.
    return TrainConfig("speed", precision=precision, base=BaseConfig(checkpoint="-"))


def step(model: ALTA, config: TrainConfig, batch: TrainingBatch, device: torch.device) -> Callable[[], object]:
    update = Update(model, make_optimizer(model, config.optim), config, World(device=device))

    def run() -> None:
        model.train()
        model.zero_grad(set_to_none=True)
        update.backward(batch, seed=1)

    return run


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--device", type=torch.device, default=torch.device("cpu"))
    parser.add_argument("--batch", type=int, default=BATCH, help="Studies, and images of the yardstick.")
    parser.add_argument("--peak-tflops", type=float, help="Of the device in bfloat16; 989 for an H100.")
    options = parser.parse_args()
    device, size = options.device, options.batch
    model = ALTA(ALTAConfig()).to(device)
    choose_trainable(model, "alta")
    batch = random_batch(size).to(device)
    narrow = config_of("bfloat16")
    runs = {
        "yardstick": yardstick(size, device),
        "float32": step(model, config_of("float32"), batch, device),
        "bf16": step(model, narrow, batch, device),
    }
    times: dict[str, list[float]] = {name: [] for name in runs}
    for number in range(options.rounds + 1):
        for name, run in runs.items():
            started = time.perf_counter()
            run()
            if device.type == "cuda":
                torch.cuda.synchronize(device)
            if number:  # the first round warms up
                times[name].append(time.perf_counter() - started)
    middle = {name: statistics.median(values) for name, values in times.items()}
    work = training_flops(narrow, workload_of(batch, model.config), size, model=model).whole.total * size
    for name, values in times.items():
        rate = "" if name == "yardstick" else f", {work / middle[name] / 1e12:.2f} TFLOP/s"
        print(f"{name:<10} {middle[name]:6.2f} s ({min(values):.2f} to {max(values):.2f}){rate}")
    peak_bytes = torch.cuda.max_memory_allocated(device) if device.type == "cuda" else _resident_bytes()
    figures = {
        "yardstick_s": round(middle["yardstick"], 3),
        "step_float32": round(middle["float32"] / middle["yardstick"], 3),
        "step_bf16": round(middle["bf16"] / middle["yardstick"], 3),
        "studies_per_s": round(size / min(middle["float32"], middle["bf16"]), 2),
        "peak_mb": round(peak_bytes / 2**20),
    }
    if options.peak_tflops:
        figures["utilisation_bf16"] = round(work / middle["bf16"] / (options.peak_tflops * 1e12), 3)
    print(json.dumps(figures))


def _resident_bytes() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


if __name__ == "__main__":
    main()
