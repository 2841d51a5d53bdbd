"""What `harness plan` says of the seeds, latents and calls that a difference of scores takes."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest

from harness.analysis.tables import make_tables
from harness.cli import main
from harness.estimates import latents as estimates
from harness.inference.clusters import ClusterVariances, half_width
from harness.interpretability.endpoint.preview import at_most
from harness.study.arms import arms
from harness.study.interpretability import Interpretability
from harness.study.judges import Endpoint
from harness.study.spec import Study, load_study
from tests.analysis.synthetic_latents import add_latents
from tests.analysis.synthetic_results import write_grid
from tests.test_planning import GPT2, PRETRAINED

STUDY = """
question: Do more active latents mean less?
source: sources/c4.yaml
recipe: {latents: 1024, k: 64, tokens: 100_000_000, batch: 8192}
axes: {k: [64, 128]}
seeds: SEEDS
interpretability: {latents: 200, draws: 2}
"""


@pytest.fixture
def study(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Study:
    (tmp_path / "studies" / "sources").mkdir(parents=True)
    source = PRETRAINED.replace("MODEL", "gpt2").replace("FEED", "stream")
    (tmp_path / "studies" / "sources" / "c4.yaml").write_text(source)
    (tmp_path / "studies" / "s.yaml").write_text(STUDY.replace("SEEDS", "[0, 1, 2]"))
    (tmp_path / "gpt2").mkdir()
    (tmp_path / "gpt2" / "config.json").write_text(json.dumps(GPT2))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "nothing"))
    return load_study(Path("studies/s.yaml"))


def line_of(study: Study, results: Path, **changes: object) -> str:
    asked = study.interpretability
    assert asked is not None
    return estimates.precision(study, asked.model_copy(update=changes), arms(study), results)


def test_plan_says_what_the_study_shows_and_what_two_points_take(study: Study, capsys: pytest.CaptureFixture[str]):
    main(["plan", "studies/s.yaml", "--device", "h100"])
    said = re.sub(r"\s+", " ", capsys.readouterr().out)
    half = half_width(estimates.USUAL, 3, 200, 2, 1)
    assert f"interpretability, 3 seeds of 200 latents: differences of detection to ±{half:.1f} points" in said
    assert "going by the depth study" in said


def test_the_numbers_that_it_names_are_enough(study: Study, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    known = ClusterVariances(seed=1.0, latent=400.0)
    monkeypatch.setattr(estimates, "USUAL", known)
    said = line_of(study, tmp_path)
    found = [(int(s), int(n)) for s, n in re.findall(r"(\d+) seeds of ([\d]+) latents(?!:)", said)]
    assert len(found) == 2
    for seeds, latents in found:
        assert half_width(known, seeds, latents, 2, 1) <= 2 < half_width(known, seeds, latents - 1, 2, 1)
    (few, many), (more, asked) = found
    assert few < more
    assert 1024 >= many > 200 >= asked


def test_variances_are_those_of_the_results(study: Study, tmp_path: Path):
    results = add_latents(
        write_grid(tmp_path / "results" / "s", {"k": [64, 128]}, 3, lambda levels, seed: 0.1 + 0.001 * seed), 40
    )
    make_tables(results)
    assert "by its results" in line_of(study, results)


def test_one_seed_has_no_intervals_and_says_how_many_it_takes(study: Study, tmp_path: Path):
    said = line_of(replace(study, seeds=[0]), tmp_path)
    assert said.startswith("interpretability, 1 seed of 200 latents: no intervals; for ±2: ")


def test_what_cannot_be_shown_with_any_seeds_is_said(
    study: Study, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(estimates, "USUAL", ClusterVariances(seed=900.0, latent=1.0))
    assert "; for ±2: over 100 seeds" in line_of(study, tmp_path)


def test_calls_of_an_endpoint_grow_with_cells_and_latents(
    study: Study, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(estimates, "USUAL", ClusterVariances(seed=1.0, latent=400.0))
    judge = Endpoint(kind="endpoint", url="http://localhost:1/v1", model="m", per_question=10)
    said = line_of(study, tmp_path, judge=judge)
    found = re.findall(r"(\d+) seeds of ([\d,]+) latents \(at most ([\d,]+) calls\)", said)
    assert len(found) == 2
    asked = Interpretability(draws=2, judge=judge)
    each = at_most(asked.model_copy(update={"latents": 1}), judge, {}).calls
    for seeds, latents, calls in ((int(n.replace(",", "")) for n in numbers) for numbers in found):
        assert calls == pytest.approx(2 * seeds * latents * each, abs=1)  # two arms
