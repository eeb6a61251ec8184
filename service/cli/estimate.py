"""What ``alta train --estimate`` prints: parameters, operations a study, the whole run, the paper's comparison."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.box import SIMPLE_HEAD
from rich.table import Table

from .console import console

if TYPE_CHECKING:
    from model.training.estimate import Compared, Estimate, Parameters

__all__ = ["Machine", "print_estimate"]

FIFTH = 0.2  # what the paper's abstract says ALTA stays under
RULE = (
    "Counted: matrix products, a multiply-add as 2 operations. Backward, a frozen weight costs the gradient of its"
    " input alone, and nothing is spent below the lowest weight that learns. Not counted: norms, activations, the"
    " optimiser, padding, validation."
)


@dataclass(frozen=True)
class Machine:
    """peak_tflops of one device at the run's precision; utilisation: the share of it that is reached;
    studies_per_second: of the whole run, as measured."""

    peak_tflops: float
    utilisation: float
    processes: int
    studies_per_second: float | None

    def device_hours(self, operations: float) -> float:
        return operations / (self.peak_tflops * 1e12 * self.utilisation) / 3600


def print_estimate(path: Path, machine: Machine, tokens: float | None) -> None:
    from model.training import read_config
    from model.training.base import absent_files
    from model.training.estimate import compare_as_published, estimate_run

    config = read_config(path)
    warnings = [f"{absent}; the run will not start without it." for absent in absent_files(config.base)]
    found = estimate_run(config, tokens, machine.processes)
    compared = compare_as_published(found.workload.tokens)
    console.print(_parameters(f"Parameters, {config.name} ({config.objective})", found))
    console.print(_study(found))
    begun = (
        f"The run: {config.optim.steps:,} steps of {config.optim.batch} studies, {found.studies_seen:,} in all"
        f" ({found.epochs:.1f} epochs)."
    )
    for line in (begun, *_hours(found, machine), *found.notes, RULE):
        console.print(line, markup=False, soft_wrap=True)
    for line in warnings:
        console.print(f"Warning: {line}", markup=False, soft_wrap=True, style="yellow")
    console.print(_comparison(compared))
    for line in _verdict(compared):
        console.print(line, markup=False, soft_wrap=True)
    print(json.dumps(_json(found, compared, machine) | {"warnings": warnings}))


def _parameters(title: str, found: "Estimate") -> Table:
    table = _table(title, "part", "total, M", "trainable, M", "share")
    for name, counted in (*found.parameters.items(), ("all", found.all_parameters)):
        table.add_row(name, *_millions(counted))
    return table


def _millions(counted: "Parameters") -> tuple[str, str, str]:
    return f"{counted.total / 1e6:.2f}", f"{counted.trainable / 1e6:.2f}", f"{counted.share:.2%}"


def _study(found: "Estimate") -> Table:
    work, whole = found.workload, found.flops.whole
    sizes = {
        "image encoder": f"{work.images:.3g} x {1 + work.kept} tokens",
        "text, contrastive pass": f"{work.tokens:.3g} tokens",
        "text, masked pass": f"{work.tokens:.3g} tokens",
        "vocabulary head": f"{work.masked:.3g} tokens",
    }
    table = _table("A study, GFLOP", "part", "of", "forward", "backward", "both", "share")
    for name, spent in (*found.flops.parts.items(), ("all", whole)):
        figures = (_giga(value) for value in (spent.forward, spent.backward, spent.total))
        table.add_row(name, sizes.get(name, ""), *figures, f"{spent.total / whole.total:.1%}")
        if name == "image encoder" and work.images:
            forward, backward = spent.forward / work.images, spent.backward / work.images
            table.add_row("  one image", "", _giga(forward), _giga(backward), _giga(forward + backward), "")
    return table


def _hours(found: "Estimate", machine: Machine) -> list[str]:
    hours = machine.device_hours(found.total)
    on = f", {hours / machine.processes:,.3g} hours on {machine.processes}" if machine.processes > 1 else ""
    lines = [
        f"{_scaled(found.total)}: {hours:,.3g} device hours{on}, at {machine.utilisation:.0%} of"
        f" {machine.peak_tflops:g} TFLOP/s."
    ]
    if rate := machine.studies_per_second:
        reached = rate * found.flops.whole.total / (machine.peak_tflops * 1e12 * machine.processes)
        measured = found.studies_seen / rate / 3600
        lines.append(f"At the measured {rate:g} studies/s: {measured:,.3g} hours, {reached:.1%} of the peak.")
    return lines


def _comparison(compared: "list[Compared]") -> Table:
    alta = compared[0]
    titles = ("learns, M", "GFLOP", "epochs", "TFLOP", "weights", "study", "run")
    table = _table("The paper's comparison, at the published size", "training", *titles)
    for row in compared:
        learned, study = row.parameters.trainable, row.flops.whole.total
        shares = (alta.parameters.trainable / learned, alta.flops.whole.total / study, alta.total / row.total)
        figures = (f"{learned / 1e6:.2f}", _giga(study), str(row.epochs), f"{row.total / 1e12:.2f}")
        table.add_row(row.name, *figures, *(f"{share:.3f}" for share in shares))
    return table


def _verdict(compared: "list[Compared]") -> list[str]:
    alta, frontal, *bases = compared[:4]
    lines = [
        "GFLOP: a study; TFLOP: a study over all epochs. weights, study, run: what ALTA learns, spends on a study and"
        " spends over all epochs, divided by the same of that row. ALTA encodes four images of every study, absent ones"
        " too, as published. MRM as published reads reports with six layers of width 384, here with ALTA's text tower.",
        "The paper's abstract: about 8 % of the parameters and less than 1/5 of the computation of MRM. By this count"
        f" ALTA learns {alta.parameters.share:.2%} of its own weights; of the computation of",
    ]
    for base in bases:
        share, alone = alta.total / base.total, frontal.total / base.total
        lines.append(
            f"- {base.name}, it takes {share:.3f}: {_under(share)}; on frontals only {alone:.3f}: {_under(alone)}."
        )
    needed = " and ".join(f"{alta.total / base.total / FIFTH:.2f}" for base in bases)
    lines.append(
        f"The epochs alone, {alta.epochs} of {bases[0].epochs}, make {alta.epochs / bases[0].epochs:.3f}. ALTA would be"
        f" under a fifth if an epoch of MRM held more than {needed} times as many records."
    )
    return lines


def _under(share: float) -> str:
    return "under a fifth" if share < FIFTH else "not under a fifth"


def _json(found: "Estimate", compared: "list[Compared]", machine: Machine) -> dict[str, Any]:
    alta, everything, rate = compared[0], found.all_parameters, machine.studies_per_second
    return {
        "parameters": {name: asdict(counted) for name, counted in (*found.parameters.items(), ("all", everything))},
        "trainable_share": everything.share,
        "workload": asdict(found.workload),
        "study_flops": {name: asdict(spent) for name, spent in found.flops.parts.items()},
        "study_flops_total": found.flops.whole.total,
        "run": {"studies": found.studies_seen, "epochs": found.epochs, "flops": found.total},
        "device_hours": machine.device_hours(found.total),
        "measured_hours": found.studies_seen / rate / 3600 if rate else None,
        "machine": asdict(machine),
        "published": [
            {
                "name": row.name,
                **asdict(row.parameters),
                "study_flops": row.flops.whole.total,
                "epochs": row.epochs,
                "alta_share": alta.total / row.total,
            }
            for row in compared
        ],
        "notes": found.notes,
    }


def _table(title: str, first: str, *columns: str) -> Table:
    table = Table(title=title, box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    table.add_column(first, no_wrap=True)
    for name in columns:
        table.add_column(name, justify="right")
    return table


def _giga(operations: float) -> str:
    value = operations / 1e9
    return f"{value:,.1f}" if value >= 10 else f"{value:.2g}"


def _scaled(operations: float) -> str:
    scale = max((unit for unit in (1e9, 1e12, 1e15, 1e18) if operations >= unit), default=1e9)
    return f"{operations / scale:.3g} {({1e9: 'G', 1e12: 'T', 1e15: 'P', 1e18: 'E'})[scale]}FLOP"
