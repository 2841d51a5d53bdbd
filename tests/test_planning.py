"""What `harness plan` says of the time, the disk and the money that a study takes."""

import json
import re
import shutil
from dataclasses import asdict, replace
from importlib import import_module
from io import StringIO
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from harness.activations.store import ActivationStore
from harness.cli import main
from harness.commands import sweeping
from harness.estimates.estimate import Estimate
from harness.estimates.machine import cpu, model_speed
from harness.estimates.spending import size
from harness.estimates.sweep import cells_left, wall
from harness.estimates.times import StepTimes, kind
from harness.progress import duration
from harness.study.arms import arms
from harness.study.known import known
from harness.study.recipe import Recipe
from harness.study.spec import Study, load_study
from harness.study.step_time import DEVICES, known_device
from harness.training import graph
from harness.workers import step_clock
from harness.workers.cell_folder import CellFolder
from harness.workspace import Workspace
from tests.conftest import WIDTH

GPT2 = {"model_type": "gpt2", "n_embd": 768, "n_layer": 12, "n_head": 12, "vocab_size": 50_257, "n_inner": None}
PRETRAINED = """
kind: pretrained
model: {name: MODEL}
text: {files: text/*.jsonl, held_out: {share: 0.01}}
activations:
  hook: transformer.h.8
  width: 768
  context: 64
  tokens: 7_500_000_000
  held_out_tokens: 1_000_000
  feed: FEED
"""
ORIGINAL = """
question: How many latents die at each k?
source: sources/c4.yaml
recipe: {latents: 24_576, k: 64, tokens: 7_500_000_000, batch: 8192, precision: bfloat16}
axes: {k: [64, 128, 256]}
seeds: [0, 1]
"""


def planned(capsys, study: Path, *options: str) -> str:
    """What the command prints, on one line."""
    main(["plan", str(study), *options])
    return re.sub(r"\s+", " ", capsys.readouterr().out)


def time_of(text: str) -> str:
    (time,) = re.findall(r"to run: about (.*?) with 2 workers on CPU cores", text)
    return time


def estimate_of(study: Study) -> Estimate:
    """Uncalibrated, of two workers on cores."""
    stored = study.source.stored
    machine = cpu((stored.width, stored.target_width), 2, 1)
    return Estimate(study, machine, StepTimes(machine.step, {}), study.source.model_cost(), 65e9, "")


def done(study: Study, times: float, **more) -> list:
    """Record results of the study's first three cells, which took so many times what is estimated."""
    workspace, estimate = Workspace(Path()), estimate_of(study)
    found = known(study, ActivationStore.open(study.source.store(workspace.data)).fingerprint).cells
    for cell in found[:3]:
        result = {"state": "complete", "reason": None, "score": 0.5, "tokens": cell.recipe.tokens}
        seconds = times * estimate.cell(cell.recipe)
        record(workspace, cell.id, {**result, "seconds": seconds, "device": "cpu", "threads": 1, **more})
    return found


def record(workspace: Workspace, cell: str, result: dict) -> None:
    CellFolder(workspace.cell(cell)).path.mkdir(parents=True)
    CellFolder(workspace.cell(cell)).publish(result)


def expected(study: Study, found: list, gone: set[str], times: float) -> str:
    estimate = estimate_of(study)
    left = cells_left(study, arms(study), found, gone, lambda cell: 1.0)
    return duration(wall([times * cell.mean(estimate.cell) for cell in left], 2))


def test_cells_that_are_done_say_how_long_the_others_take(small_study, capsys):
    study = load_study(small_study)
    found = done(study, 4000)
    text = planned(capsys, small_study, "--workers", "2")
    assert "3 done, 5 to run" in text
    assert time_of(text) == expected(study, found, {cell.id for cell in found[:3]}, 4000)
    assert "at the speed of the cells that are done" in text


UNLIKE = {
    "diverged": {"state": "diverged", "reason": "FVU inf", "tokens": 256},
    "with other threads": {"threads": 4},
    "on a GPU": {"device": "NVIDIA H100 80GB HBM3"},
    "in micro-batches": {"micro_batches": 4},
}


@pytest.mark.parametrize("which", UNLIKE)
def test_a_cell_that_says_nothing_of_the_others_does_not_spoil_their_rate(small_study, capsys, which):
    study, workspace = load_study(small_study), Workspace(Path())
    found = done(study, 4000)
    odd = {"state": "complete", "reason": None, "score": 0.5, "tokens": 25_000, "seconds": 1e-3}
    record(workspace, found[3].id, {**odd, "device": "cpu", "threads": 1, **UNLIKE[which]})
    store = ActivationStore.open(study.source.store(workspace.data))
    asked = known(study, store.fingerprint, score_of(workspace)).cells
    gone = {cell.id for cell in asked if CellFolder(workspace.cell(cell.id)).result()}
    text = planned(capsys, small_study, "--workers", "2")
    assert time_of(text) == expected(study, asked, gone, 4000)


def score_of(workspace: Workspace):
    return lambda cell: CellFolder(workspace.cell(cell)).score()


@pytest.mark.parametrize("unlike", [{"state": "diverged", "reason": "FVU inf"}, {"device": "cuda"}])
def test_without_a_cell_that_does_the_plan_is_estimated(small_study, capsys, unlike):
    done(load_study(small_study), 4000, **unlike)
    assert "estimated from one AMD EPYC's cores" in planned(capsys, small_study, "--workers", "2")


def test_an_interrupted_cell_takes_what_is_left_of_it(small_study, capsys):
    study, workspace = load_study(small_study), Workspace(Path())
    found = done(study, 4000)
    started = CellFolder(workspace.cell(found[3].id))
    (started.path / "checkpoints").mkdir(parents=True)
    started.describe({"recipe": {"tokens": 25_000}})
    started.curve.write_text(json.dumps({"step": 1, "tokens": 20_000}) + "\n")
    estimate = estimate_of(study)
    left = cells_left(study, arms(study), found, {cell.id for cell in found[:3]}, lambda cell: 1.0)
    left = [replace(cell, left=0.2) if [found[3].recipe] == list(cell.recipes) else cell for cell in left]
    seconds = wall([4000 * cell.mean(estimate.cell) for cell in left], 2)
    assert time_of(planned(capsys, small_study, "--workers", "2")) == duration(seconds)


def test_a_failed_cell_is_still_to_run(small_study, capsys):
    study, workspace = load_study(small_study), Workspace(Path())
    found = done(study, 4000)
    failed = CellFolder(workspace.cell(found[3].id))
    failed.path.mkdir(parents=True)
    failed.fail("RuntimeError: out of memory")
    text = planned(capsys, small_study, "--workers", "2")
    assert "3 done, 5 to run" in text
    assert time_of(text) == expected(study, found, {cell.id for cell in found[:3]}, 4000)


@pytest.mark.chaos
def test_steps_are_timed_where_that_is_asked_and_nothing_is_written(small_study, capsys):
    before = sorted(Path().rglob("*"))
    text = planned(capsys, small_study, "--measure", "--workers", "1")
    assert "4 kinds of steps timed here now" not in text  # the learning rate changes no time
    assert "2 kinds of steps timed here now" in text
    assert "could not be" not in text
    assert sorted(Path().rglob("*")) == before


def test_what_a_named_gpu_costs(small_study, capsys):
    text = planned(capsys, small_study, "--device", "H100", "--workers", "4", "--price", "3600")
    (hours, price) = re.findall(r"price: about ([\d.]+) \(([\d.e-]+) GPU-hours at 3600\)", text)[0]
    assert "with 4 × NVIDIA H100 (SXM) (estimated from an H200's steps and some measured on one" in text
    assert float(hours) == pytest.approx(3600 * float(price), rel=0.01)
    assert "memory: the largest cell needs" in text


def test_two_workers_on_one_gpu_share_its_time_and_its_memory(small_study, capsys, monkeypatch):
    monkeypatch.setattr(import_module("harness.commands.plan"), "count_gpus", lambda: 1)
    monkeypatch.setattr("torch.cuda.get_device_name", lambda _: "NVIDIA H100 80GB HBM3")
    monkeypatch.setattr("torch.cuda.get_device_properties", lambda _: SimpleNamespace(total_memory=80 * 2**30))
    one, two = (planned(capsys, small_study, "--workers", count, "--price", "3600") for count in "12")
    assert "with 1 × NVIDIA H100 80GB HBM3" in one
    assert "with 2 workers on 1 × NVIDIA H100 80GB HBM3" in two
    prices = [float(re.findall(r"price: about ([\d.]+)", text)[0]) for text in (one, two)]
    assert prices[1] == pytest.approx(prices[0], rel=0.1)  # both prepare cells at the same time
    room = [float(re.findall(r"of ([\d.]+) GB that there is for cells", text)[0]) for text in (one, two)]
    assert room[1] == pytest.approx(room[0] / 2, rel=0.05)


def test_a_gpu_whose_driver_is_too_old_for_torch_is_none(monkeypatch):
    """NVIDIA's management library counts it, and torch takes its word."""
    monkeypatch.setattr(sweeping, "Path", lambda _: SimpleNamespace(glob=lambda name: ["/dev/nvidia0"]))
    monkeypatch.setattr("torch.cuda.device_count", lambda: 1)
    for usable in (True, False):
        monkeypatch.setattr("torch.cuda.is_available", lambda usable=usable: usable)
        assert sweeping.count_gpus() == usable


def test_a_part_of_a_gpu_is_not_planned_as_if_it_were_all_of_it(small_study, capsys, monkeypatch):
    name = "NVIDIA H100 80GB HBM3 MIG 1g.10gb"
    monkeypatch.setattr(import_module("harness.commands.plan"), "count_gpus", lambda: 1)
    monkeypatch.setattr("torch.cuda.get_device_name", lambda _: name)
    monkeypatch.setattr("torch.cuda.get_device_properties", lambda _: SimpleNamespace(total_memory=10 * 2**30))
    text = planned(capsys, small_study)
    assert f"no figures for {name}: estimated as for an A100; use --measure" in text


@pytest.mark.parametrize(
    ("name", "known"),
    [
        ("NVIDIA H100 80GB HBM3", "h100"),
        ("NVIDIA H200", "h200"),
        ("NVIDIA A100-SXM4-80GB", "a100"),
        ("NVIDIA GH200 480GB", None),
        ("NVIDIA A100-SXM4-80GB MIG 1g.10gb", None),
        ("Tesla T4", None),
    ],
)
def test_gpus_are_known_by_their_product_names(name, known):
    assert known_device(name) == known


def test_the_graphs_of_one_timed_recipe_leave_the_next_one_their_memory(monkeypatch, capsys):
    forgotten: list[str] = []
    monkeypatch.setattr(graph, "_anchor", SimpleNamespace(cache_clear=lambda: forgotten.append("pool")))
    recipe = asdict(Recipe(latents=64, k=4, tokens=8_000, batch=128, lr=1e-3))
    asked = {"width": 16, "target_width": None, "device": "cpu", "threads": torch.get_num_threads(), "seconds": 0}
    monkeypatch.setattr("sys.stdin", StringIO(json.dumps({"recipes": [recipe, recipe], **asked})))
    step_clock.main()
    assert capsys.readouterr().out.count('"step"') == len(forgotten) == 2


def refusal(capsys, *arguments: str) -> str:
    with pytest.raises(SystemExit) as end:
        main(["plan", *arguments])
    assert end.value.code == 2
    return capsys.readouterr().err


def test_mistakes_are_one_line(small_study, capsys):
    study = str(small_study)
    assert "expected one of cpu, cuda, h200, h100, a100, got 'tpu'" in refusal(capsys, study, "--device", "tpu")
    assert "--measure: expected a device of this machine" in refusal(
        capsys, study, "--device", "h100", "--measure"
    )
    assert "expected a price of an hour" in refusal(capsys, study, "--price", "-1")


@pytest.fixture
def original(tmp_path, monkeypatch):
    """Writes the study of a pretrained model, by name and feed."""

    def write(model: str, feed: str) -> Path:
        (tmp_path / "studies" / "sources").mkdir(parents=True)
        source = PRETRAINED.replace("MODEL", model).replace("FEED", feed)
        (tmp_path / "studies" / "sources" / "c4.yaml").write_text(source)
        (tmp_path / "studies" / "original.yaml").write_text(ORIGINAL)
        (tmp_path / "gpt2").mkdir()
        (tmp_path / "gpt2" / "config.json").write_text(json.dumps(GPT2))
        monkeypatch.chdir(tmp_path)
        monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "nothing"))
        return Path("studies/original.yaml")

    return write


def test_a_stored_source_says_that_it_is_larger_than_the_disk(original, capsys):
    text = planned(capsys, original("gpt2", "stored"), "--device", "h100", "--price", "2.5")
    assert "9 of 12 blocks run, 128.3 MFLOP per token" in text
    assert "11.5 TB on disk" in text
    assert "activations.disk allows 50 GB, so that `harness prepare` refuses to make them" in text
    making = 7.501e9 * 128.3e6 / model_speed(DEVICES["h100"], 4)  # seconds of passes, in float32
    (hours, minutes) = re.findall(r"about (\d+)h(\d+)m to make them", text)[0]
    assert 60 * int(hours) + int(minutes) == pytest.approx(making / 60, abs=2)
    assert "activations included" in text


def test_a_streamed_source_runs_its_model_beside_the_cells(original, capsys):
    study = original("gpt2", "stream")
    text = planned(capsys, study, "--device", "h100")
    assert "streamed; on disk 1.94 GB" in text
    assert "15,000,000,000 in all (once for every cohort" in text  # two seeds, whose cells see other batches
    (share,) = re.findall(r"batches\): (\d+)% of the sweep's time", text)
    (hours, minutes) = re.findall(r"about (\d+)h(\d+)m with 1 × NVIDIA H100", text)[0]
    model = 15e9 * 128.3e6 / model_speed(DEVICES["h100"], 4)
    assert model / (3600 * int(hours) + 60 * int(minutes)) == pytest.approx(int(share) / 100, abs=0.04)


def test_twelve_cells_and_the_tokens_of_the_original_take_a_night(tmp_path, monkeypatch, capsys):
    """On one H100, in bfloat16. The text's cost of time is its model's."""
    shutil.copytree(Path(__file__).parents[1] / "studies" / "original", tmp_path / "studies")
    (tmp_path / "gpt2").mkdir()
    (tmp_path / "gpt2" / "config.json").write_text(json.dumps(GPT2))
    monkeypatch.chdir(tmp_path)
    for source in Path("studies/sources").glob("gpt2_*.yaml"):
        source.write_text(source.read_text().replace("openai-community/gpt2", "gpt2"))
    text = planned(capsys, Path("studies/learning_rates.yaml"), "--device", "h100", "--price", "2.5")
    assert "= 12 cells" in text
    assert "7,500,000,000 in all" in text
    (hours,) = re.findall(r"about (\d+)h\d+m with 1 × NVIDIA H100", text)
    (beside,) = re.findall(r"and with the cells beside it ([\d,]+);", text)
    assert int(hours) <= 9
    assert float(beside.replace(",", "")) > 240_000
    whole = planned(capsys, Path("studies/original.yaml"), "--device", "h100", "--price", "2.5")
    assert "= 24 cells" in whole
    assert re.search(r"about [\d.]+ days with 1 × NVIDIA H100", whole)  # dense layers and a penalty, in float32


def test_the_cost_of_a_model_that_is_not_here_is_not_known_and_the_rest_is(original, capsys):
    text = planned(capsys, original("nobody/nothing", "stored"), "--device", "h100")
    assert "language model: its cost is not known offline" in text
    assert "11.5 TB on disk" in text
    assert "with 1 × NVIDIA H100" in text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (45, "45s"),
        (185, "3m05s"),
        (7800, "2h10m"),
        (47 * 3600, "47h00m"),
        (2 * 86_400, "2 days"),
        (3.2 * 86_400, "3.2 days"),
        (345 * 86_400, "345 days"),
        (97_771.5 * 3600, "11.2 years"),
    ],
)
def test_durations_are_readable(seconds, text):
    assert duration(seconds) == text


@pytest.mark.parametrize(("number", "text"), [(0, "0 B"), (999, "999 B"), (136e6, "136 MB"), (1.15e13, "11.5 TB")])
def test_sizes_are_readable(number, text):
    assert size(number) == text


def test_a_kind_that_was_not_timed_is_scaled_by_the_others():
    slow, other = (Recipe(latents=64, k=k, tokens=4096) for k in (4, 8))
    machine = cpu((WIDTH, None), 1, 1)
    step = StepTimes(machine.step, {kind(slow): (slow, 3 * machine.step(slow))})
    assert step(other) == pytest.approx(3 * machine.step(other))
    assert step(replace(slow, lr=0.5, seed=3)) == pytest.approx(3 * machine.step(slow))


def test_a_sweep_takes_as_long_as_its_longest_cell_however_many_workers_there_are():
    assert wall([100.0, 1.0, 1.0], workers=8) > 100
