"""What a study takes besides its cells, in lines: the language model, disk, memory, money."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from harness.engines.free_memory import PROCESS, SHARE
from harness.errors import UserError
from harness.estimates.estimate import Estimate
from harness.estimates.sweep import Left, passes
from harness.progress import duration
from harness.sources.model_cost import ModelCost
from harness.sources.source import Source
from harness.study.concurrency import cells_at_once
from harness.study.memory import together
from harness.study.plan import cost
from harness.sweep.cohorts import LARGEST

UNITS = ("B", "kB", "MB", "GB", "TB", "PB")
HOUR = 3600.0


def spending(estimate: Estimate, left: Sequence[Left], prepared: bool, price: float | None) -> list[str]:
    """Lines; `prepared`: whether the activations are there. price: of an hour, of each GPU if there are any."""
    lines = [*_model(estimate), *_activations(estimate, left, prepared), *_memory(estimate, left)]
    if price is not None:
        lines.append(_money(estimate, left, prepared, price))
    return lines


def known_model_cost(source: Source) -> ModelCost | UserError | None:
    """What a pass of the source's model costs, or why that is not known."""
    try:
        return source.model_cost()
    except UserError as failure:
        return failure


def size(number: float) -> str:
    """Bytes as `11.5 TB`."""
    unit = 0
    while number >= 1000 and unit < len(UNITS) - 1:
        number /= 1000
        unit += 1
    return f"{number:.3g} {UNITS[unit]}"


def _rounded(number: float) -> str:
    """To three digits, as in 301,000."""
    return f"{float(f'{number:.3g}'):,.0f}"


def _model(estimate: Estimate) -> Iterator[str]:
    model = estimate.model
    if model is None:
        why = known_model_cost(estimate.study.source)
        if isinstance(why, UserError):
            yield f"language model: its cost is not known offline, so that no time here includes it: {why}"
        return
    flops = f"{model.flops_per_token / 1e6:,.4g} MFLOP per token"
    yield (
        f"language model ({model.name}): {model.blocks} of {model.of_blocks} blocks run, {flops}, "
        f"{size(model.bytes)} of weights"
    )


def _activations(estimate: Estimate, left: Sequence[Left], prepared: bool) -> Iterator[str]:
    source = estimate.study.source
    stored = source.stored
    tokens = f"{stored.tokens['train']:,} + {stored.tokens['held_out']:,} tokens"
    width = f"{stored.width:,}" + (f" + {stored.target_width:,}" if stored.target_width else "")
    text = f"activations: {tokens} of {width} numbers in {stored.dtype}"
    if estimate.streams:
        text += f", streamed; on disk {size(source.disk_bytes)}, the first window and the held-out ones"
    else:
        text += f", {size(source.disk_bytes)} on disk"
    if not prepared and estimate.model is not None:
        training = estimate.training_model()
        text += f"; about {duration(training)} to train the model" if training else ""
        text += f"; about {duration(estimate.making())} to make them"
    yield text
    if source.disk_limit is not None and source.disk_bytes > source.disk_limit:
        yield (
            f"activations.disk allows {size(source.disk_limit)}, so that `harness prepare` refuses to make them: "
            f"raise it, or ask for fewer tokens{'' if estimate.streams else ', or say feed: stream'}"
        )
    if estimate.streams and estimate.model is not None and left:
        sweep, run_over = estimate.sweep(left), passes(left)
        alone = estimate.model_speed / estimate.model.flops_per_token
        beside = run_over / (sweep.seconds * estimate.machine.workers)
        yield (
            f"stream: on each worker the model makes {_rounded(alone)} tokens per second alone, and with the "
            f"cells beside it {_rounded(beside)}; {run_over:,.0f} in all (once for every cohort of up to "
            f"{LARGEST} cells with the same batches): {sweep.model / sweep.seconds:.0%} of the sweep's time"
        )


def _memory(estimate: Estimate, left: Sequence[Left]) -> Iterator[str]:
    """What fits a GPU; nothing for CPUs, of whose memory `harness run` itself takes account."""
    if estimate.machine.memory is None or not left:
        return
    stored = estimate.study.source.stored
    model = estimate.model.bytes if estimate.model is not None and estimate.streams else 0
    room = SHARE * estimate.machine.memory - PROCESS - model
    sizes = (stored.width, estimate.study.known_features, stored.target_width)
    recipes = {recipe for cell in left for recipe in cell.recipes}
    needs = {recipe: cost(recipe, *sizes, on_gpu=True).memory for recipe in recipes}
    like, largest = max(needs.items(), key=lambda need: need[1].alone)
    cohorts = ([like] * number for number in range(1, LARGEST + 1))
    fitting = sum(together([largest] * len(cells), cells_at_once(cells)) <= room for cells in cohorts)
    text = f"memory: the largest cell needs {size(largest.alone)} of {size(max(room, 0))} that there is for cells"
    if fitting:
        yield f"{text} on a GPU; {fitting} like it train together" + (" at most" if fitting == LARGEST else "")
    else:
        yield f"{text} on a GPU: it does not fit, unless its batches are split; use another GPU or smaller batches"


def _money(estimate: Estimate, left: Sequence[Left], prepared: bool, price: float) -> str:
    machine = estimate.machine
    before = 0.0 if prepared else estimate.training_model() + estimate.making()
    together = 1 if machine.is_cpu else machine.gpus  # what has a price: this machine, or each GPU
    hours = (before + estimate.sweep(left).seconds) * together / HOUR
    of = "hours of this machine" if machine.is_cpu else "GPU-hours"
    what = "" if prepared else ", activations included"
    return f"price: about {hours * price:,.2f} ({hours:,.3g} {of} at {price:g}{what})"
