"""The commands of `harness`. They import packages inside functions, so that `--help` starts quickly."""

from __future__ import annotations

from harness.commands.command import Command
from harness.commands.compare import compare, compare_arguments
from harness.commands.evaluate import evaluate, evaluate_arguments
from harness.commands.export import export, export_arguments
from harness.commands.features import features, features_arguments
from harness.commands.plan import plan, plan_arguments
from harness.commands.prepare import prepare, prepare_arguments
from harness.commands.push import push, push_arguments
from harness.commands.report import report, report_arguments
from harness.commands.run import run, run_arguments
from harness.commands.status import status, status_arguments
from harness.commands.ui import ui, ui_arguments

SOURCE = "studies/sources/docstrings.yaml"
STUDY = "studies/depth.yaml"
COMMANDS = (
    Command(
        "plan",
        "Show the cells of a study and what they would cost, without running anything.",
        f"plan {STUDY} --device h100 --price 2.5",
        plan_arguments,
        plan,
        online=True,
    ),
    Command(
        "run",
        "Run all cells of a study that have no result yet.",
        f"run {STUDY} --workers 2",
        run_arguments,
        run,
        online=True,
    ),
    Command(
        "evaluate",
        "Measure a study's trained cells where a metric is new or has changed; train nothing.",
        f"evaluate {STUDY}",
        evaluate_arguments,
        evaluate,
    ),
    Command(
        "status",
        "Show how many cells are done, running, failed or missing.",
        f"status {STUDY} --follow",
        status_arguments,
        status,
    ),
    Command(
        "report",
        "Make tables, figures and the report page of a study.",
        f"report {STUDY}",
        report_arguments,
        report,
    ),
    Command(
        "features",
        "Make a page to look at a study's latents one by one: where they fire, explanations, scores.",
        f"features {STUDY} none",
        features_arguments,
        features,
    ),
    Command(
        "compare",
        "Set the results of several studies side by side: same arms, shared cells, verdicts that agree.",
        "compare results/depth results/optimizer",
        compare_arguments,
        compare,
    ),
    Command(
        "export",
        "Copy trained SAEs, with a model card, in the format of harness, SAELens or sparsify.",
        f"export {STUDY} exported --format sae_lens",
        export_arguments,
        export,
    ),
    Command(
        "push",
        "Put exported SAEs into a repository on the Hugging Face hub, private by default.",
        "push exported/2c819620bda3 owner/name",
        push_arguments,
        push,
        online=True,
    ),
    Command(
        "ui",
        "Serve Optuna's dashboard and MLflow's UI on this machine.",
        "ui optuna",
        ui_arguments,
        ui,
    ),
    Command(
        "prepare",
        "Make what a source needs: text, language model, activations.",
        f"prepare {SOURCE}",
        prepare_arguments,
        prepare,
        online=True,
    ),
)
