"""`harness export`: SAEs with model cards, in the formats of three packages."""

import json
import shutil
from pathlib import Path

import polars as pl
import pytest
import torch
import yaml

from harness import load_sae
from harness.cli import main
from harness.commands.export import FORMATS
from harness.training.interchange import formats
from tests.conftest import WIDTH
from tests.test_cli import fails

STUDY = "studies/small.yaml"
X = torch.randn(300, WIDTH, generator=torch.Generator().manual_seed(1))


@pytest.fixture(scope="module")
def swept(undisturbed, tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("swept") / "workspace"
    shutil.copytree(undisturbed, root)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        main(["report", STUDY, "--step", "tables"])
    return root


@pytest.fixture
def seeds(swept, tmp_path, monkeypatch) -> list[dict]:
    """The rows of the seeds table, in a workspace in which the study is done."""
    monkeypatch.chdir(swept)
    return pl.read_parquet("results/small/tables/seeds.parquet").to_dicts()


def test_the_command_knows_all_formats():
    assert FORMATS == formats.FORMATS


@pytest.mark.parametrize("name", FORMATS)
def test_a_study_s_saes_are_exported_as_far_as_the_format_has_them(name, seeds, tmp_path, capsys):
    out = tmp_path / "out"
    main(["export", STUDY, str(out), "--format", name])
    fit = [row for row in seeds if name == "harness" or row["axis_layers"] == "none"]
    assert sorted(path.name for path in out.iterdir()) == sorted([*(row["cell"] for row in fit), "README.md"])
    for row in fit:
        sae, exported = load_sae(row["sae"]), load_sae(out / row["cell"])
        torch.testing.assert_close(exported(X), sae(X), rtol=1e-4, atol=1e-4)
    said = capsys.readouterr().out
    assert (
        f"left out: {', '.join(row['cell'] for row in seeds if row not in fit)}: layers: sparse 2: " in said
    ) == (name != "harness")


def test_the_card_says_what_the_tables_say(seeds, tmp_path):
    out, row = tmp_path / "out", seeds[0]
    main(["export", STUDY, str(out), "--format", "sae_lens", "--cell", row["cell"]])
    assert sorted(path.name for path in out.iterdir()) == sorted([row["cell"], "README.md"])
    card = (out / row["cell"] / "README.md").read_text()
    _, front, text = card.split("---\n", 2)
    assert yaml.safe_load(front)["library_name"] == "saelens"
    (arm,) = [a for a in pl.read_parquet("results/small/tables/arms.parquet").to_dicts() if a["arm"] == row["arm"]]
    interval = f"{arm['fvu']:.4f} [{arm['fvu_low']:.4f}, {arm['fvu_high']:.4f}]"
    assert f"| FVU | {row['fvu']:.4f} | {interval} |" in text
    assert "did not fire on the first 1,024 held-out tokens" in text
    assert "over 2 seeds" in text
    assert "at hook `transformer.h.0`" in text
    assert f"| `lr` | {row['axis_lr']} |" in text
    assert "`aux_weight`" not in text  # it does nothing without aux-k
    assert f"```yaml\n{Path('studies/sources/random.yaml').read_text().strip()}\n```" in text
    index = (out / "README.md").read_text()
    assert f"| `{row['cell']}` | {row['arm']} | {row['seed']} | {row['fvu']:.4f} |" in index
    assert "None" not in card
    assert "None" not in index


def test_one_sae_is_exported_and_comes_back(seeds, tmp_path, capsys):
    sae = next(row["sae"] for row in seeds if row["axis_layers"] == "none")
    for source, name in [
        (sae, "sparsify"),
        (tmp_path / "sparsify", "sae_lens"),
        (tmp_path / "sae_lens", "harness"),
    ]:
        main(["export", str(source), str(tmp_path / name), "--format", name])
        assert (tmp_path / name / "README.md").exists()
    back = load_sae(tmp_path / "harness")
    torch.testing.assert_close(back(X), load_sae(sae)(X), rtol=1e-4, atol=1e-4)
    card = (tmp_path / "harness" / "README.md").read_text()
    assert "Converted by harness from a file of SAELens." in card
    assert "`lr`" not in card  # it is unknown
    assert json.loads((tmp_path / "sparsify" / "cfg.json").read_text())["k"] == 4


def test_mistakes_are_one_line_and_nothing_is_overwritten(seeds, tmp_path, capsys):
    deep = next(row for row in seeds if row["axis_layers"] != "none")
    out = str(tmp_path / "out")
    assert "layers: sparse 2: other packages" in fails(capsys, "export", deep["sae"], out, "--format", "sae_lens")
    wrong = ["export", STUDY, out, "--format", "sparsify", "--cell", deep["cell"]]
    assert "no SAE fits --format sparsify: layers: sparse 2" in fails(capsys, *wrong)
    assert "--cell: expected a cell whose SAE" in fails(capsys, "export", STUDY, out, "--cell", "nonsense")
    assert "--cell: expected a study file" in fails(capsys, "export", deep["sae"], out, "--cell", deep["cell"])
    assert "expected a trained SAE" in fails(capsys, "export", str(tmp_path), out)
    assert not Path(out).exists()
    Path(out).mkdir()
    (Path(out) / "README.md").write_text("mine")
    for what in (STUDY, deep["sae"]):
        assert "at which there is nothing yet; nothing was written" in fails(capsys, "export", what, out)
    assert [path.name for path in Path(out).iterdir()] == ["README.md"]
    assert (Path(out) / "README.md").read_text() == "mine"


def test_a_study_without_tables_says_what_makes_them(small_study, capsys, tmp_path):
    said = fails(capsys, "export", str(small_study), str(tmp_path / "out"))
    assert "results/small: no study.json: run `harness run studies/small.yaml` first" in said
