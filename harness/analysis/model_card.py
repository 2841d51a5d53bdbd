"""The model card of an exported SAE, and the list of a study's exported SAEs: what strangers need to use them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from harness.analysis.arms.measured import confidence
from harness.analysis.results.records import StudyRecord
from harness.analysis.sentences.text import Row, mean, plural, shown
from harness.metrics import L0, Metric, compared, metrics_at
from harness.study.identity import inert
from harness.study.recipe import RECIPE_FIELDS

if TYPE_CHECKING:
    from harness.training.sae_files import SAEConfig

TAGS = ("sparse-autoencoder", "mechanistic-interpretability", "dictionary-learning")
LIBRARY = {"sae_lens": "saelens"}  # where the hub knows the package
LOADING = {  # of an SAE in a folder
    "harness": 'from harness import load_sae\n\nsae = load_sae("FOLDER")',
    "sae_lens": 'from sae_lens import SAE\n\nsae = SAE.load_from_disk("FOLDER")',
    "sparsify": 'from sparsify import SparseCoder\n\nsae = SparseCoder.load_from_disk("FOLDER")',
}
USING = {
    "harness": "reconstruction, latents = sae(x), sae.encode(x)",
    "sae_lens": "reconstruction, latents = sae(x), sae.encode(x)",
    "sparsify": "reconstruction, (values, indices, _) = sae(x).sae_out, sae.encode(x)",
}


@dataclass(frozen=True)
class Reported:
    """What a study says of one SAE: its row of the seeds table, its arm's row, and the text of the source file."""

    study: StudyRecord
    seed: Row
    arm: Row
    source: str


def model_card(config: SAEConfig, name: str, reported: Reported | None = None) -> str:
    """README.md of an SAE in the format `name`; with figures where a study reports it."""
    title = f"{_kind(config)} of {config.recipe.latents:,} latents"
    if reported is not None:
        title = f"{reported.seed['arm']}, seed {reported.seed['seed']}: {title}"
    parts = [_front(name), f"# {title}", _what(config, name), _code(LOADING[name] + "\n" + USING[name], "python")]
    if reported is not None:
        parts += ["## Figures", *_figures(config, reported)]
    parts += ["## Recipe", _recipe(config)]
    if reported is not None:
        parts += ["## Source", "The activations come from this source file:", _code(reported.source, "yaml")]
    return "\n\n".join([*parts, _origin(config)]) + "\n"


def list_of_saes(study: StudyRecord, rows: Sequence[Row], name: str) -> str:
    """README.md above the folders of a study's exported SAEs: one row for each, with the compared metrics."""
    metrics = [metric for metric in _final(rows[0]) if metric in compared(_final(rows[0])) or metric is L0]
    head = ["folder", "arm", "seed", *(f"{metric.label}{metric.unit}" for metric in metrics)]
    lines = [[f"`{row['cell']}`", row["arm"], str(row["seed"]), *(mean(row, m) for m in metrics)] for row in rows]
    parts = [
        _front(name),
        f"# SAEs of the study {study.name}",
        study.question,
        _table(head, lines),
        f"Figures are those on {study.heldout_tokens:,} held-out tokens of hook `{study.source['hook']}`. Each "
        "folder has a card of its own.",
    ]
    return "\n\n".join(parts) + "\n"


def _kind(config: SAEConfig) -> str:
    return "transcoder" if config.transcoder else "sparse autoencoder"


def _front(name: str) -> str:
    """What the hub reads."""
    library = [f"library_name: {LIBRARY[name]}"] if name in LIBRARY else []
    return "\n".join(["---", *library, "tags:", *(f"- {tag}" for tag in TAGS), "---"])


def _what(config: SAEConfig, name: str) -> str:
    hook = "" if config.hook is None else f" at hook `{config.hook}` (as transformers names modules)"
    target = "" if config.target_hook is None else f", and predicts those at hook `{config.target_hook}`"
    trained = f" It was trained on {config.tokens:,} tokens." if config.tokens else ""
    others = (
        ""
        if name == "harness"
        else "\n\nCentring and scaling are folded into weights and biases, so that decoder "
        "rows need not have unit norm. Latents and reconstructions are those of the SAE that was trained."
    )
    return (
        f"A {_kind(config)} for activations of width {config.width}{hook}{target}.{trained} Activations `x` "
        f"[..., {config.width}] go in as the language model has them, and reconstructions come out in the same "
        f"units.{others}"
    )


def _figures(config: SAEConfig, reported: Reported) -> list[str]:
    study, seed, arm = reported.study, reported.seed, reported.arm
    window = f"{config.recipe.dead_window:,}"
    rows = [
        [m.label, f"{mean(seed, m)}{m.unit}", shown(arm, m), m.defined(window)]
        for m in _final(seed)
        if seed[m.name] is not None
    ]
    among = f"its arm, {arm['arm']!r}, over {plural(arm['n'], 'seed')}"
    said = (
        f"On {study.heldout_tokens:,} held-out tokens: this SAE, and the mean of {among}, with "
        f"{confidence(study)} intervals. "
        f"The study `{study.name}` asks: {study.question}"
    )
    return [said, _table(["metric", "this SAE", "mean of its arm", "definition"], rows)]


def _final(row: Row) -> list[Metric]:
    return [metric for metric in metrics_at("final") if metric.name in row]


def _recipe(config: SAEConfig) -> str:
    """Settings that do something; of another package's SAE what is known."""
    left_out = inert(config.recipe)
    values = {name: v for name, v in asdict(config.recipe).items() if name not in left_out}
    values["lr"] = config.recipe.peak_lr
    if config.package != "harness":
        known = {"latents", "sparsifier"} | ({"k"} if config.recipe.sparsifier == "topk" else set())
        values = {name: value for name, value in values.items() if name in known}
    described = [
        [f"`{field}`", f"{value:,}" if isinstance(value, int) and value > 9999 else str(value), _meaning(field)]
        for field, value in values.items()
        if value is not None
    ]
    return _table(["setting", "value", "meaning"], described)


def _meaning(field: str) -> str:
    return str(RECIPE_FIELDS[field].metadata["description"])


def _origin(config: SAEConfig) -> str:
    if config.package != "harness":
        return f"Converted by harness from a file of {config.package}."
    made_by = {
        "harness": config.harness,
        "source": config.source,
        "fingerprint of the activations": config.data,
        "fingerprint of the training code": config.code,
    }
    said = [f"{what} `{value}`" for what, value in made_by.items() if value]
    return f"Trained by {', '.join(said)}." if said else "Trained by harness."


def _code(text: str, language: str) -> str:
    return f"```{language}\n{text.strip()}\n```"


def _table(head: Sequence[Any], rows: Iterable[Sequence[Any]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(str(cell).replace('|', chr(92) + '|') for cell in line)} |" for line in lines)
