"""The command line as a person meets it."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from harness.cli import main, parser
from harness.commands import COMMANDS
from harness.commands.status import state_of
from harness.files import write_json
from harness.locks import exclusive, this_process
from harness.workers.cell_folder import CellFolder

ROOT = Path(__file__).parents[1]


def fails(capsys, *arguments: str) -> str:
    """Run a command that a user got wrong; the one line that it says."""
    with pytest.raises(SystemExit) as stop:
        main(arguments)
    assert stop.value.code == 2
    error = capsys.readouterr().err
    assert "Traceback" not in error
    return error.strip().splitlines()[-1]


@pytest.mark.parametrize("command", COMMANDS, ids=lambda c: c.name)
def test_every_command_helps_with_an_example_that_parses(command, capsys):
    with pytest.raises(SystemExit) as stop:
        main([command.name, "--help"])
    assert stop.value.code == 0
    shown = capsys.readouterr().out
    (example,) = re.findall(r"example:  harness (.*)", shown)
    options = parser().parse_args(example.split())
    assert options.run is command.run
    for name in ("study", "source"):
        if name in options:
            assert (ROOT / getattr(options, name)).exists()


def test_a_missing_study_is_one_line(capsys):
    assert (
        fails(capsys, "run", "studies/nowhere.yaml") == "harness: studies/nowhere.yaml: No such file or directory"
    )


def test_a_wrong_option_is_one_line(capsys):
    assert "expected a whole number from 1 to 10000, got '0'" in fails(capsys, "run", "x.yaml", "--workers", "0")
    assert "expected a number of seconds" in fails(capsys, "run", "x.yaml", "--checkpoint-seconds", "soon")
    assert "invalid choice" in fails(capsys, "reprot", "x.yaml")


WHOLE = ["0", "-1", "1.5", "nan", "²", "", "1" * 5000]
SECONDS = ["-1", "nan", "inf", "1e999", "", "1_0s"]
WRONG = {
    "--workers": WHOLE,
    "--threads": [*WHOLE, "1000000"],
    "--cohort": WHOLE,
    "--checkpoint-seconds": SECONDS,
    "--patience-seconds": [*SECONDS, "0", "4.9"],
}
WRONG_PORTS = {"--optuna-port": [*WHOLE, "65536"], "--mlflow-port": [*WHOLE, "65536"]}


@pytest.mark.parametrize(
    ("command", "option", "value"),
    [
        (command, option, value)
        for command, wrong in {"run x.yaml": WRONG, "ui": WRONG_PORTS}.items()
        for option, values in wrong.items()
        for value in values
    ],
)
def test_a_number_that_cannot_be_meant_is_one_line(command, option, value, capsys):
    assert f"argument {option}: expected a" in fails(capsys, *command.split(), f"{option}={value}")


def test_a_gpu_that_is_not_there_is_one_line(small_study, capsys):
    import torch

    if torch.cuda.is_available():
        pytest.skip("there is one")
    assert "--device: expected 'cpu'" in fails(capsys, "run", str(small_study), "--device", "cuda")


def test_without_activations_there_is_a_plan_and_what_makes_them_is_said(small_study, capsys):
    shutil.rmtree("data")
    main(["plan", str(small_study)])
    shown = capsys.readouterr().out
    assert "4 tuning cells + 4 reported cells = 8 cells" in shown
    assert "of which tuning: 4 cells, about" in shown
    assert "no activations yet" in re.sub(r"\s+", " ", shown)
    making = f"to make them: harness run {small_study}"
    main(["status", str(small_study)])
    assert capsys.readouterr().out == f"small: no activations yet; {making}\n"
    missing = f"harness: data/random/activations: expected the activations of {small_study}, found none; {making}"
    assert fails(capsys, "evaluate", str(small_study)) == missing
    Path("data/random").mkdir(parents=True)
    with exclusive(Path("data/random/.lock")) as taken:
        assert taken
        Path("data/random/.lock").write_text(f"{this_process()}\n{{}}")
        main(["status", str(small_study)])
        assert f"small: no activations yet; process {os.getpid()} on " in capsys.readouterr().out


def test_a_wrong_study_is_one_line(small_study, capsys):
    text = small_study.read_text()
    small_study.write_text(text.replace("tuning_seeds: [2]", "tuning_seeds: [1]"))
    line = fails(capsys, "run", str(small_study))
    assert "studies/small.yaml:15: tuning_seeds: expected seeds that are not under 'seeds' too, got [1]" in line
    small_study.write_text(
        text.replace("layers: [none, sparse 2]", "depth: {settings: {deep: {layer: sparse 2}}}")
    )
    line = fails(capsys, "plan", str(small_study))
    assert "studies/small.yaml:10: axes.depth.settings.deep.layer: unknown key; did you mean 'layers'?" in line


TOO_LARGE = {
    "a dead window of the recipe": (
        ("1_024", "1_025"),
        ":8: recipe.dead_window: expected at most the 1024 held-out tokens",
    ),
    "a batch of the recipe": (
        ("batch: 128", "batch: 9_000"),
        ":7: recipe.batch: expected at most the 8192 activat",
    ),
    "a level": (
        ("axes:\n", "axes:\n  dead_window:\n  - 512\n  - 1_024\n  - 1_000_000\n"),
        ":13: axes.dead_window[2]: expected at most the 1024 held-out tokens",
    ),
    "a tuned level": (
        ("axes:\n", "axes:\n  batch:\n    tune: true\n    values: [256, 8_193]\n"),
        ":12: axes.batch.values[1]: expected at most the 8192 activations",
    ),
    "a level under a condition": (
        ("  lr:\n", "  batch:\n    when:\n      layers:\n        sparse 2: [256, 9_000]\n  lr:\n"),
        ":14: axes.batch.when.layers.sparse 2[1]: expected at most the 8192 activations",
    ),
    "a named setting": (
        ("  lr:\n", "  size:\n    settings:\n      usual: {}\n      huge: {batch: 9_000}\n  lr:\n"),
        ":14: axes.size.settings.huge.batch: expected at most the 8192 activations",
    ),
}


ASKED = {
    "hook: expected 'transformer.h.1'": ("transformer.h.0", "transformer.h.1"),
    "width: expected 32": ("width: 16", "width: 32"),
    "dtype: expected 'float16'": ("float32", "float16"),
    "tokens.train: expected 8000": ("8192", "8000"),
    "context: expected 32": ("context: 16", "context: 32"),
    "seed: expected 1": ("dtype:", "seed: 1, dtype:"),
}


@pytest.mark.parametrize("message", ASKED)
def test_activations_that_the_source_file_no_longer_asks_for_are_refused(small_study, message, capsys):
    store, source = Path("data/random/activations/manifest.json"), Path("studies/sources/random.yaml")
    store.write_text(json.dumps({**json.loads(store.read_text()), "context": 16, "seed": 0}))
    main(["plan", str(small_study)])
    source.write_text(source.read_text().replace(*ASKED[message]))
    assert f"activations: {message}, as studies/sources/random.yaml says" in fails(
        capsys, "plan", str(small_study)
    )


@pytest.mark.parametrize("command", ["plan", "run"])
@pytest.mark.parametrize("kind", TOO_LARGE)
@pytest.mark.parametrize("prepared", [True, False], ids=["prepared", "not prepared"])
def test_a_window_or_batch_beyond_the_activations_is_one_line(small_study, capsys, kind, command, prepared):
    import shutil

    (old, new), expected = TOO_LARGE[kind]
    text = small_study.read_text()
    assert old in text
    small_study.write_text(text.replace(old, new, 1))
    if not prepared:
        shutil.rmtree("data")
    assert f"studies/small.yaml{expected}" in fails(capsys, command, str(small_study))
    assert not Path("runs").exists()
    assert Path("data").exists() == prepared


@pytest.mark.parametrize("host", ["nowhere.invalid", "::1", "127.0.0.0.1", "a..b"])
def test_dashboards_on_a_host_that_is_none_are_one_line(host, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    Path("runs").mkdir()
    Path("runs/optuna.db").touch()
    assert f"--host: expected a name or an IPv4 address of this machine, got {host!r}" in fails(
        capsys, "ui", "optuna", "--host", host
    )


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="only Linux gives a process some of the cores")
def test_there_are_as_many_workers_as_cores_that_this_process_may_use():
    code = """if True:
        import os
        from harness.commands.sweeping import cpu_count
        os.sched_setaffinity(0, [min(os.sched_getaffinity(0))])
        print(cpu_count())
    """
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "1\n"


def test_there_are_no_dashboards_before_a_sweep(small_study, capsys):
    assert "expected a sweep's databases" in fails(capsys, "ui")


def test_a_report_needs_a_sweep(small_study, capsys):
    assert "harness run studies/small.yaml" in fails(capsys, "report", str(small_study))


def test_a_closed_pipe_is_no_error(small_study):
    command = f"{sys.executable} -m harness plan {small_study} | head -n 1"
    done = subprocess.run(["bash", "-o", "pipefail", "-c", command], capture_output=True, text=True)
    assert done.stderr == ""


SYNTHETIC = (
    "{kind: synthetic, width: 8, features: 24, tokens: 600, held_out_tokens: 300, active: 2, dtype: float32}\n"
)


@pytest.mark.parametrize(
    "stream", ["1", pytest.param("2", marks=pytest.mark.chaos)], ids=["standard output", "standard error"]
)
def test_a_run_goes_on_where_nobody_can_read_along(undisturbed, stream, tmp_path):
    root = tmp_path / "copy"
    shutil.copytree(undisturbed, root)
    shutil.rmtree(root / "results")
    run = f"{sys.executable} -m harness run studies/small.yaml"
    command = {"1": f"{run} > /dev/full", "2": f"({run} 2> /dev/full) | true"}[stream]
    done = subprocess.run(["bash", "-o", "pipefail", "-c", command], cwd=root, stderr=subprocess.PIPE, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert (root / "results/small/cells.jsonl").read_bytes() == (
        undisturbed / "results/small/cells.jsonl"
    ).read_bytes()


@pytest.fixture
def synthetic_study(small_study) -> Path:
    """The small study's file, on known features that nobody has made yet."""
    shutil.rmtree("data")
    Path("studies/sources/random.yaml").write_text(SYNTHETIC)
    text = small_study.read_text().replace("1_024", "256").replace("50_000", "600")
    small_study.write_text(text.replace("[1e-3, 4e-3]", "[1e-3]").replace("[0, 1]", "[0]"))
    return small_study


def test_a_study_of_known_features_needs_no_text(synthetic_study, capsys):
    main(["run", str(synthetic_study), "--workers", "1"])
    assert sorted(path.name for path in Path("data/random").iterdir()) == [".lock", "activations"]
    assert "2 done, 0 to run" in re.sub(r"\s+", " ", _is_set(capsys, "plan", str(synthetic_study)))
    assert len(Path("results/small/cells.jsonl").read_text().splitlines()) == 2


def _is_set(capsys, *arguments: str) -> str:
    main(arguments)
    return str(capsys.readouterr().out)


@pytest.mark.parametrize("step", ["corpus", "language_model", "activation"])
def test_a_step_that_a_source_does_not_have_is_one_line(synthetic_study, step, capsys):
    source = "studies/sources/random.yaml"
    expected = "expected one of activations, the steps of kind 'synthetic'"
    assert (
        fails(capsys, "prepare", source, "--step", step) == f"harness: {source}: --step: {expected}, got {step!r}"
    )


def test_activations_of_other_settings_or_of_the_other_kind_are_refused(synthetic_study, capsys):
    source = Path("studies/sources/random.yaml")
    assert "600 + 300 tokens (24 known features)" in _is_set(capsys, "prepare", str(source))
    text = source.read_text()
    source.write_text(text.replace("active: 2", "active: 3"))
    line = fails(capsys, "plan", str(synthetic_study))
    again = f"make them again: harness prepare {source} --step activations"
    assert line.endswith(f"synthetic.active: expected 3.0, as {source} says, got 2.0; {again}")
    source.write_text(
        "kind: docstrings\n"
        "corpus: {packages: [rich]}\n"
        "language_model: {layers: 1, width: 8, heads: 2, context: 16, tokens: 99, batch: 4, lr: 1e-3}\n"
        "activations: {hook: transformer.h.0, tokens: 600, held_out_tokens: 300}\n"
    )
    assert "hook: expected 'transformer.h.0', as studies" in fails(capsys, "plan", str(synthetic_study))


def test_without_the_extra_a_ray_engine_is_one_line(small_study, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "ray", None)
    monkeypatch.delitem(sys.modules, "harness.engines.ray_pool", raising=False)
    assert fails(capsys, "run", str(small_study), "--engine", "ray").endswith("pip install 'harness[ray]'")


def test_what_the_user_set_for_a_library_stands(small_study, monkeypatch, capsys):
    monkeypatch.setenv("HF_HUB_OFFLINE", "0")
    monkeypatch.delenv("DO_NOT_TRACK", raising=False)
    main(["plan", str(small_study)])
    assert os.environ["HF_HUB_OFFLINE"] == "0"
    assert os.environ["DO_NOT_TRACK"] == "true"


@pytest.mark.parametrize(
    ("native", "kernels"), [pytest.param("1", "compiled", marks=pytest.mark.chaos), ("0", "plain")]
)
def test_a_sweep_without_compiled_kernels_says_so(synthetic_study, monkeypatch, capsys, native, kernels):
    import json
    import shutil

    if kernels == "compiled" and shutil.which("g++") is None:
        pytest.skip("no compiler")
    monkeypatch.setenv("HARNESS_NATIVE", native)
    shown = re.sub(r"\s+", " ", _is_set(capsys, "run", str(synthetic_study), "--workers", "1"))
    assert ("2 cells were trained without compiled kernels" in shown) == (kernels == "plain")
    assert json.loads(Path("results/small/study.json").read_text())["environment"]["kernels"] == kernels


def test_dashboards_listen_on_this_machine_alone():
    assert parser().parse_args(["ui"]).host == "127.0.0.1"


def test_a_cell_with_a_result_has_not_failed_though_it_did_before(tmp_path):
    """Killed between the result and the removal of the failure."""
    folder = CellFolder(tmp_path)
    folder.fail("out of memory")
    write_json(tmp_path / "result.json", {"state": "complete", "reason": None})
    assert state_of(folder) == ("complete", None)
