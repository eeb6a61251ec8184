"""One process of a training world: ``python -m tests.one_of_two OUT`` under the environment of ``torchrun``."""

import sys
from dataclasses import fields, replace
from pathlib import Path

import torch

from model.losses import LossWeights, TrainingBatch, alta_losses, contrastive_loss
from model.training.config import OptimConfig, TrainConfig
from model.training.distributed import World, join_world
from model.training.objectives import choose_trainable
from model.training.optimizer import make_optimizer
from model.training.step import TrainingDiverged, Update

from .tiny import TRANSFORM, tiny_model

LOCAL_WEIGHT = 0.5


def joined_batch(size: int = 6) -> TrainingBatch:
    """Texts of unlike length, so that processes mask unlike numbers of words."""
    draw = torch.Generator().manual_seed(3)
    lengths = torch.randint(6, 20, (size, 1), generator=draw)
    attention_mask = (torch.arange(20)[None] < lengths).long()
    input_ids = torch.randint(5, 40, (size, 20), generator=draw) * attention_mask
    masked = (torch.rand(size, 20, generator=draw) < 0.5) & attention_mask.bool()
    return TrainingBatch(
        target=torch.randn(size, 1, 64, 64, generator=draw),
        others=torch.randn(size, 3, 1, 32, 32, generator=draw),
        present=torch.ones(size, 4, dtype=torch.bool),
        input_ids=input_ids,
        attention_mask=attention_mask,
        masked_input_ids=torch.where(masked, 4, input_ids),
        labels=torch.where(masked, input_ids, -100),
        noise=torch.rand(size, 4, 16, generator=draw),
    )


def rows_of(batch: TrainingBatch, rows: torch.Tensor) -> TrainingBatch:
    names = [field.name for field in fields(TrainingBatch) if getattr(batch, field.name) is not None]
    return replace(batch, **{name: getattr(batch, name)[rows] for name in names})


def gradients(batch: TrainingBatch, world: World, local_group: int) -> dict[str, torch.Tensor]:
    model = tiny_model()
    losses = alta_losses(
        model,
        batch,
        local_group=local_group,
        contrast=lambda *pair: contrastive_loss(*map(world.gather, pair), model.logit_scale),
    )
    shares = world.shares_of_mean({"text_reconstruction": int((batch.labels != -100).sum())})
    losses.total(LossWeights(local_contrastive=LOCAL_WEIGHT), shares).backward()
    world.average_gradients(model.parameters())
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


def losses(batch: TrainingBatch, world: World) -> dict[str, float]:
    """Of one step, as the log has them."""
    return _update(world)(batch, seed=1)


def _update(world: World) -> Update:
    model = tiny_model()
    choose_trainable(model, "alta", everything=True)
    optim = OptimConfig(batch=6, local_group=3, trainable="all", clip_norm=1e9)
    config = TrainConfig("two", optim=optim, model=model.config, transform=TRANSFORM)
    return Update(model, make_optimizer(model, config.optim), config, world)


def _stopped_by(batch: TrainingBatch, world: World) -> str:
    """What a process is told where an image of the other has no numbers."""
    if not world.leads:
        batch = replace(batch, target=batch.target * torch.nan)
    try:
        losses(batch, world)
    except TrainingDiverged as error:
        return error.message
    return ""


def _partly_reached(world: World) -> list[torch.Tensor | None]:
    """Averaged gradients of what both processes, the second alone, and none of them has one for."""
    parameters = [torch.nn.Parameter(torch.zeros(2)) for _ in range(3)]
    parameters[0].grad = torch.full((2,), 1.0 + world.rank)
    parameters[1].grad = None if world.leads else torch.full((2,), 4.0)
    world.average_gradients(parameters)
    return [parameter.grad for parameter in parameters]


if __name__ == "__main__":
    torch.set_num_threads(1)
    world = join_world()
    share = rows_of(joined_batch(), world.share(torch.arange(6)))
    found = {
        "gradients": gradients(share, world, local_group=3),
        "losses": losses(share, world),
        "partly reached": _partly_reached(world),
        "stopped by": _stopped_by(share, world),
        "patience": world.waiting._get_backend(torch.device("cpu")).options._timeout.total_seconds(),
    }
    torch.save(found, Path(sys.argv[1]) / f"{world.rank}.pt")
    world.wait()
