"""What a study is planned for: the workers of this machine, or GPUs of a named kind."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from harness.study.recipe import Recipe
from harness.study.step_time import CPU_CORE, DEVICES, MEASURED, Device, step_work

# Of a language model's forward pass, FLOP/s. A core: measured with GPT-2 in float32 on the EPYC of `CPU_CORE`.
# A GPU: what part of the data sheet's products GPT-2 small reaches in passes of 8,192 tokens.
MODEL_CORE = 65e9
MODEL_ACHIEVED = {"bfloat16": 0.3, "float32": 0.6}
SECOND_THREAD = 0.8  # of a thread's speed that each further one of a worker adds
MODEL_PRECISION = {2: "bfloat16", 4: "float32"}  # by bytes per weight

Widths = tuple[int, int | None]  # of the activations, and of a transcoder's targets


@dataclass(frozen=True)
class Machine:
    """Workers that are alike.

    step: estimated seconds of a training step on one of them. model_speed: FLOP/s of one in a language model's
    forward pass, by bytes per weight. prepares: how many of these there are for `harness prepare`. device: `cpu`,
    `cuda`, or the name of a GPU. gpus: how many the workers use, in turn.
    """

    label: str
    device: str
    workers: int
    threads: int
    step: Callable[[Recipe], float]
    model_speed: Callable[[int], float]
    prepares: float
    memory: int | None  # bytes of one worker's GPU, or of its share of it
    basis: str  # where `step` is from
    gpus: int = 0

    @property
    def is_cpu(self) -> bool:
        return self.device == "cpu"

    def did(self, result: Mapping[str, Any]) -> bool:
        """Whether a cell's result is of such a worker."""
        found = str(result.get("device", ""))
        if self.is_cpu:
            return found == "cpu" and result.get("threads") == self.threads
        return self.device.upper() in found.upper()


def cpu(widths: Widths, workers: int, threads: int) -> Machine:
    """Workers on the cores of this machine."""
    faster = 1 + SECOND_THREAD * (threads - 1)

    def step(recipe: Recipe) -> float:
        return CPU_CORE.seconds(step_work(recipe, *widths)) / faster

    of_each = f", {threads} threads each" if threads > 1 else ""
    return Machine(
        label=f"{_count(workers, 'worker')} on CPU cores{of_each}",
        device="cpu",
        workers=workers,
        threads=threads,
        step=step,
        model_speed=lambda _: MODEL_CORE * faster,
        prepares=float(workers),
        memory=None,
        basis="estimated from one AMD EPYC's cores; --measure times a few steps here",
    )


def sharing(machine: Machine, gpus: int) -> Machine:
    """The same workers on so many GPUs, of which several use one where these are fewer.

    Taken as if they took turns: each is slower by as many as there are.
    """
    gpus = min(gpus, machine.workers)
    share = machine.workers / gpus
    return replace(
        machine,
        gpus=gpus,
        step=lambda recipe: share * machine.step(recipe),
        model_speed=lambda size: machine.model_speed(size) / share,
        prepares=machine.prepares * share,
        memory=None if machine.memory is None else int(machine.memory / share),
    )


def gpu(name: str, widths: Widths, workers: int) -> Machine:
    """GPUs of a kind that `DEVICES` names, one worker on each."""
    device = DEVICES[name]

    def step(recipe: Recipe) -> float:
        return device.seconds(recipe, *widths)

    return Machine(
        label=f"{workers} × {device.label}",
        device=name,
        gpus=workers,
        workers=workers,
        threads=1,
        step=step,
        model_speed=lambda size: model_speed(device, size),
        prepares=1.0,
        memory=device.memory,
        basis=_basis(name),
    )


def model_speed(device: Device, bytes_per_number: int) -> float:
    """FLOP/s of a language model's forward pass."""
    precision = MODEL_PRECISION[bytes_per_number]
    return MODEL_ACHIEVED[precision] * device.products[precision]


def stream_rate(steps: float, batch: int, model: float) -> float:
    """Tokens of text per second that cells train on while a language model makes their activations beside them.

    steps: seconds of one step of all of them, on the same `batch` tokens. model: seconds of its pass per token.
    """
    return batch / (steps + batch * model)


def _basis(name: str) -> str:
    if name == MEASURED:
        return "estimated from steps measured on one, docs/gpu.md"
    if DEVICES[name].relative is not None:
        return f"estimated from an {MEASURED.upper()}'s steps and some measured on one, docs/gpu_h100.md"
    return f"estimated: an {MEASURED.upper()}'s steps (docs/gpu.md), scaled by the {name.upper()}'s data sheet"


def _count(number: int, what: str) -> str:
    return f"{number} {what}" + ("" if number == 1 else "s")
