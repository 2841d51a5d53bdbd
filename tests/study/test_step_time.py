"""Estimated times of steps against those that were measured."""

import re
from pathlib import Path

import pytest

from harness.estimates.machine import model_speed, stream_rate
from harness.sources.model_cost import HookPoint, model_cost
from harness.study.recipe import Recipe
from harness.study.step_time import CPU_CORE, DEVICES, FORWARD, MEASURED, step_work

GPT2 = {"model_type": "gpt2", "n_embd": 768, "n_layer": 12, "n_head": 12, "vocab_size": 50_257}
DOCS = Path(__file__).parents[2] / "docs"
GPU_PAGE = (DOCS / "gpu.md").read_text()
H100_PAGE = (DOCS / "gpu_h100.md").read_text()
VARIANTS = {
    "top-k": {},
    "batch top-k": {"sparsifier": "batchtopk"},
    "JumpReLU": {"sparsifier": "jumprelu", "sparsity": 0.3},
    "ReLU, L1": {"sparsifier": "relu", "sparsity": 1e-3},
    "spread penalty (ReLU)": {"penalty": 1e-4},
    "matryoshka": {"prefixes": "0.125-0.5"},
    "dense 2-2": {"layers": "dense 2-2"},
    "dense 2-4-4-2": {"layers": "dense 2-4-4-2"},
    "three sparse layers": {"layers": "sparse 3"},
    "three, all of it each": {"layers": "sparse 3 each"},
}
SINCE = {  # steps whose code is another one since gpu.md was measured
    "float32": {"precision": "float32"},
    "aux-k, 384 of a quarter dead": {"aux_k": 384},
    "Muon": {"optimizer": "muon"},
}
# Medians of the seconds that a cell of `make repro` took, two workers on two idle cores, 2026-11-26
DEPTH = [
    ({}, 0.95),
    ({"optimizer": "muon"}, 2.75),
    ({"layers": "dense 2-2"}, 2.48),
    ({"layers": "dense 2-2", "penalty": 0.1}, 5.79),
    ({"layers": "dense 1-2-2-1"}, 3.13),
    ({"layers": "dense 1-2-2-1", "penalty": 0.1}, 6.40),
    ({"layers": "dense_encoder 2"}, 1.82),
    ({"layers": "sparse 3"}, 1.40),
    ({"layers": "sparse 3", "penalty": 0.1}, 3.10),
]


def recipe(width: int, latents: int, k: int, batch: int, **more) -> tuple[Recipe, int]:
    return Recipe(latents=latents, k=k, batch=batch, tokens=10**9, lr=1e-3, **more), width


def of_the_gpu_page() -> list[tuple[str, Recipe, int, float]]:
    """Label, recipe, width and measured milliseconds of each step on docs/gpu.md that is still taken like that."""
    found = []
    for sizes, *times in re.findall(r"\| ([\d, ]+) \| step, ms \| [\d.]+ \| ([\d.]+) \| ([\d.]+) \|", GPU_PAGE):
        numbers = [int(number.replace(",", "")) for number in sizes.split(", ")]
        for precision, ms in zip(("tf32", "bfloat16"), times, strict=True):
            found.append((f"{sizes} {precision}", *recipe(*numbers, precision=precision), float(ms)))
    for name, changes in VARIANTS.items():
        (ms,) = re.findall(rf"^\| {re.escape(name)} \| ([\d.]+) \|", GPU_PAGE, re.MULTILINE)
        found.append((name, *recipe(768, 24_576, 32, 8192, precision="bfloat16", **changes), float(ms)))
    return found


def test_steps_on_an_h200_are_within_30_percent_of_those_measured_there():
    ratios = {}
    for name, made, width, ms in of_the_gpu_page():
        ratios[name] = 1e3 * DEVICES[MEASURED].seconds(made, width) / ms
    assert len(ratios) == 18
    assert 0.7 < min(ratios.values()) < max(ratios.values()) < 1.3, ratios
    assert sorted(ratios.values())[9] == pytest.approx(1, abs=0.1)


@pytest.mark.parametrize("name", ["top-k", "dense 2-2", "three sparse layers", *SINCE])
def test_steps_on_an_h100_are_within_30_percent_of_those_measured_there(name):
    (ms,) = re.findall(rf"^\| {re.escape(name)} \|.* ([\d.]+) \|$", H100_PAGE, re.MULTILINE)
    made, width = recipe(
        768, 24_576, 32, 8192, **{"precision": "bfloat16", **VARIANTS.get(name, {}), **SINCE.get(name, {})}
    )
    assert 1e3 * DEVICES["h100"].seconds(made, width) == pytest.approx(float(ms), rel=0.3)


def of_the_stream(row: str) -> float:
    """Tokens per second, of docs/gpu_h100.md."""
    (found,) = re.findall(rf"^\| {row}[^|]* \| ([\d,]+) \|", H100_PAGE, re.MULTILINE)
    return float(found.replace(",", ""))


def test_twelve_cells_on_a_streamed_pass_are_within_20_percent_of_those_measured_there():
    device, cost = DEVICES["h100"], model_cost("gpt2", GPT2, [HookPoint("transformer.h.8")], 64, "bfloat16")
    model = cost.flops_per_token / model_speed(device, cost.bytes_per_number)
    made, width = recipe(768, 24_576, 32, 8192, precision="bfloat16")
    steps = 12 * device.seconds(made, width)
    assert made.batch / steps == pytest.approx(of_the_stream("12 cells alone"), rel=0.2)
    assert stream_rate(steps, made.batch, model) == pytest.approx(of_the_stream("all together"), rel=0.2)


def test_cells_of_the_main_study_are_within_15_percent_and_all_of_them_within_5():
    held_out, curve = 32_768, 10 * 256  # tokens
    total = 0.0
    for changes, seconds in DEPTH:
        made = Recipe(latents=1024, k=16, tokens=200_000, **changes)
        steps = made.steps + FORWARD * (held_out + curve) / made.batch
        estimate = CPU_CORE.seconds(step_work(made, 128)) * steps + 0.1
        assert estimate == pytest.approx(seconds, rel=0.15), changes
        total += estimate
    assert total == pytest.approx(sum(seconds for _, seconds in DEPTH), rel=0.05)


def test_a_smaller_gpu_takes_longer():
    made, width = recipe(768, 24_576, 32, 8192, precision="bfloat16")
    times = [DEVICES[name].seconds(made, width) for name in ("h200", "h100", "a100")]
    assert times == sorted(times)
    assert times[2] < 4 * times[0]


@pytest.mark.parametrize("changes", [*VARIANTS.values(), {"layers": "dense_encoder 2"}])
def test_a_transcoder_as_wide_as_its_input_takes_about_as_long_as_an_sae(changes):
    if changes.get("layers", "").startswith("sparse"):
        return  # all of its coders read the data, which spares them gradients
    made, width = recipe(768, 24_576, 32, 8192, **changes)
    own, other = (CPU_CORE.seconds(step_work(made, width, target)) for target in (None, width))
    assert other == pytest.approx(own, rel=0.01)
