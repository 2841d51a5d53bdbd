"""Estimated times of steps against those that were measured."""

import re
from pathlib import Path

import pytest

from harness.study.recipe import Recipe
from harness.study.step_time import CPU_CORE, DEVICES, FORWARD, step_work

GPU_PAGE = (Path(__file__).parents[2] / "docs" / "gpu.md").read_text()
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
    """Label, recipe, width and measured milliseconds of each step on docs/gpu.md."""
    found = []
    for sizes, *times in re.findall(r"\| ([\d, ]+) \| step, ms \| ([\d.]+) \| ([\d.]+) \| ([\d.]+) \|", GPU_PAGE):
        numbers = [int(number.replace(",", "")) for number in sizes.split(", ")]
        for precision, ms in zip(("float32", "tf32", "bfloat16"), times, strict=True):
            found.append((f"{sizes} {precision}", *recipe(*numbers, precision=precision), float(ms)))
    for name, changes in VARIANTS.items():
        (ms,) = re.findall(rf"^\| {re.escape(name)} \| ([\d.]+) \|", GPU_PAGE, re.MULTILINE)
        found.append((name, *recipe(768, 24_576, 32, 8192, precision="bfloat16", **changes), float(ms)))
    return found


def test_steps_on_a_gpu_are_within_30_percent_of_those_measured_there():
    (label,) = re.findall(r"Measured \S+ on (.+?),", GPU_PAGE)
    device = next((device for device in DEVICES.values() if device.label == label), None)
    if device is None:
        pytest.skip(f"no estimates for {label}")
    assert device.measured
    ratios = {}
    for name, made, width, ms in of_the_gpu_page():
        estimate = 1e3 * device.step_speed(made.precision).seconds(step_work(made, width))
        ratios[name] = estimate / ms
    assert len(ratios) == 24
    assert 0.7 < min(ratios.values()) < max(ratios.values()) < 1.3, ratios
    assert sorted(ratios.values())[12] == pytest.approx(1, abs=0.1)


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
    h200, h100, a100 = (DEVICES[name].step_speed("bfloat16") for name in ("h200", "h100", "a100"))
    times = [speed.seconds(step_work(made, width)) for speed in (h200, h100, a100)]
    assert times == sorted(times)
    assert times[2] < 4 * times[0]


@pytest.mark.parametrize("changes", [*VARIANTS.values(), {"layers": "dense_encoder 2"}])
def test_a_transcoder_as_wide_as_its_input_takes_about_as_long_as_an_sae(changes):
    if changes.get("layers", "").startswith("sparse"):
        return  # all of its coders read the data, which spares them gradients
    made, width = recipe(768, 24_576, 32, 8192, **changes)
    own, other = (CPU_CORE.seconds(step_work(made, width, target)) for target in (None, width))
    assert other == pytest.approx(own, rel=0.01)
