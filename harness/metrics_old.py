"""Every metric of an SAE: the one table that training, tables, figures, report, databases and docs read.

A new metric is one function, which measures it, and one row in `METRICS`.
"""

from __future__ import annotations

from collections.abc import Container, Iterable
from dataclasses import dataclass, replace
from typing import Any, Literal, TypeAlias

# Where a metric is measured: on the held-out activations after training; there for each sparse layer; and at the
# points of learning curves, on held-out activations and on the batches that were trained on since the last point.
Place: TypeAlias = Literal["final", "layer", "heldout", "train"]
CURVES: tuple[Place, ...] = ("heldout", "train")

TRAINING = "harness.training.cell:Cell.drain"
QUALITY = "harness.evaluation.quality:measure"
FEATURES = "harness.evaluation.known_features:measure"
ROBUST = "harness.evaluation.robust"
LANGUAGE_MODEL = "harness.evaluation.loss_recovered:measure"
LATENTS = "harness.interpretability.figures:figures_of"


@dataclass(frozen=True)
class Metric:
    """One metric, at one or several places.

    `name`: its key in results and its column in tables; in points of curves `heldout_<name>` and `train_<name>`.
    `label`, `axis`: what it is called in text and on the axis of a plot. `definition`: one sentence without a full
    stop. In both, `{dead_window}` stands for the study's number of tokens.
    `scale` turns the stored value into the shown one, in `unit` and with `digits` digits after the decimal point.
    `change`: how arms are compared by it: by the difference in percent of the reference, or in points of the shown
    unit. None: arms are not compared by it; it is in tables, on the report page and in MLflow, but in no figure or
    finding. `better`: None where neither direction is.
    `bounds`: the lowest and highest stored value that it can have, None where there is no such bound.
    `optional`: where it is measured, if not everywhere.
    `measured_by`: `module:function` of what measures it; one function may measure several metrics.
    `measured_on`: what that function is given beside the SAE: held-out activations, or the language model on the
    text behind them; where a source has no text, metrics of the latter kind are not measured. Or the tables of
    its latents, which a study asks for (`interpretability`).
    `group`: the final values of one group are drawn in one figure, beside FVU.
    `pairs`: whether a cell's value is its mean over pairs with the other seeds of its arm; the analysis takes into
    account that these are not independent (`harness.inference.pairs`).
    """

    name: str
    label: str
    axis: str
    definition: str
    scale: float = 1
    unit: str = ""
    digits: int = 4
    change: Literal["percent", "points"] | None = None
    better: Literal["lower", "higher"] | None = None
    bounds: tuple[float | None, float | None] = (0, None)
    optional: str = ""
    measured_by: str = QUALITY
    measured_on: Literal["activations", "text", "latents"] = "activations"
    places: tuple[Place, ...] = ("final",)
    group: Literal["reconstruction", "features", "interpretability"] = "reconstruction"
    pairs: bool = False

    def defined(self, dead_window: str = "`dead_window`") -> str:
        """The definition with the dead window in it."""
        return self.definition.replace("{dead_window}", dead_window)

    def drawn_on(self, dead_window: str) -> str:
        """The label of an axis with the dead window in it."""
        return self.axis.replace("{dead_window}", dead_window)

    @property
    def short(self) -> str:
        """What its columns of the effects table begin with."""
        return self.name.removesuffix("_fraction")

    @property
    def effect(self) -> str:
        """The column of the effects table with its change."""
        return f"{self.short}_{self.change}"

    @property
    def change_unit(self) -> str:
        """The unit of a change: `%`, `points` of a percentage, or the shown unit, which may be empty."""
        if self.change == "percent":
            return "%"
        return "points" if self.unit.strip() == "%" else self.unit.strip()

    @property
    def change_digits(self) -> int:
        """Digits of a change after the decimal point: one of percent and points, or else those of the value."""
        return 1 if self.change_unit in ("%", "points") else self.digits

    @property
    def verdict(self) -> str:
        """The column of the effects table with the verdict on that change."""
        return f"{self.short}_verdict"

    def judge(self, verdict: str) -> str:
        """`better`, `worse` or `level`, from a verdict of `harness.analysis.statistics`."""
        if self.better is None or verdict not in ("lower", "higher"):
            return "level"
        return "better" if verdict == self.better else "worse"


def _feature(name: str, label: str, definition: str) -> Metric:
    return Metric(
        name,
        label,
        axis=f"{label}, %",
        definition=definition,
        scale=100,
        unit=" %",
        digits=1,
        change="points",
        better="higher",
        bounds=(0, 1),
        optional="where the source knows its features",
        measured_by=FEATURES,
        group="features",
    )


def _of_latents(name: str, label: str, definition: str, **others: Any) -> Metric:
    """Of a study's sampled latents: a share in percent, unless `others` say otherwise."""
    known: dict[str, Any] = {"axis": f"{label}, %", "scale": 100, "unit": " %", "digits": 1, "bounds": (0, 1)}
    known |= {"optional": "where the study asks for interpretability", "measured_by": LATENTS}
    known |= {"measured_on": "latents", "group": "interpretability"}
    return Metric(name, label, definition=definition, **(known | others))


FVU = Metric(
    "fvu",
    "FVU",
    axis="held-out FVU",
    definition="fraction of variance unexplained: the sum of squared errors over the sum of squares about the "
    "held-out mean of each dimension; 0 is perfect, 1 is as good as always saying the mean",
    change="percent",
    better="lower",
    places=("final", "heldout"),
)
L0 = Metric(
    "l0",
    "L0",
    axis="held-out L0",
    definition="mean number of active latents (value above zero) per token, in one sparse layer or in all; "
    "FVU falls as L0 rises, so arms are compared fairly only where it is equal",
    digits=2,
    places=("final", "layer", "heldout"),
)
DEAD = Metric(
    "dead_fraction",
    "dead latents",
    axis="dead on held-out tokens, %",
    definition="share of the latents that did not fire on the first {dead_window} held-out tokens",
    scale=100,
    unit=" %",
    digits=1,
    change="points",
    better="lower",
    bounds=(0, 1),
    places=("final", "layer"),
)
SILENT = replace(  # the same of training
    DEAD,
    label="latents that are silent in training",
    axis="silent for the last\n{dead_window} training\ntokens, %",
    definition="share of the latents that did not fire on the last {dead_window} training tokens, while the "
    "weights changed",
    optional="where as many tokens were trained on",
    measured_by=TRAINING,
    places=("train",),
)
DIED = replace(
    SILENT,
    name="died_fraction",
    label="latents that died since the last point",
    axis="died since the last point, %",
    definition="share of all latents that did not fire on the last {dead_window} training tokens, but at the last "
    "point had fired on those before it",
    change=None,
)
REVIVED = replace(
    DIED,
    name="revived_fraction",
    label="latents that revived since the last point",
    axis="revived since the last point, %",
    definition="share of all latents that fired on the last {dead_window} training tokens, but at the last point "
    "had not fired on those before it",
    better="higher",
)


def _within(name: str, tokens: str) -> tuple[Metric, Metric]:
    """Death within a window that other packages have, on held-out activations and in training."""
    final = replace(
        DEAD,
        name=name,
        label=f"dead within {tokens} tokens",
        axis=f"dead on {tokens} held-out tokens, %",
        definition=f"share of the latents that did not fire on the first {tokens} held-out tokens",
        optional="where there are as many held-out tokens",
        change=None,
        places=("final",),
    )
    silent = replace(
        SILENT,
        name=name,
        label=f"latents that are silent for {tokens} training tokens",
        axis=f"silent for the last\n{tokens} training\ntokens, %",
        definition=f"share of the latents that did not fire on the last {tokens} training tokens, while the "
        "weights changed",
        change=None,
    )
    return final, silent


LOSS_RECOVERED = Metric(
    "loss_recovered",
    "loss recovered",
    axis="loss recovered, %",
    definition="(cross-entropy with zero ablation − that with the SAE) / (that with zero ablation − the language "
    "model's own); zero ablation puts 0 in place of the activations, the SAE its reconstructions; at 100 % the "
    "model predicts as well as without the SAE, at 0 as badly as with zero ablation",
    scale=100,
    unit=" %",
    digits=2,
    change="points",
    better="higher",
    bounds=(None, None),
    optional="where the source has text",
    measured_by=LANGUAGE_MODEL,
    measured_on="text",
)
CROSS_ENTROPY = replace(
    LOSS_RECOVERED,
    name="ce_loss_with_sae",
    label="cross-entropy with the SAE",
    axis="cross-entropy with the SAE, nats per token",
    definition="mean cross-entropy of the language model's next-token predictions, in nats per token, with "
    "reconstructions in place of the activations",
    scale=1,
    unit=" nats",
    digits=4,
    change=None,
    better="lower",
    bounds=(0, None),
)

MCC = _feature(
    "mcc", "MCC", "mean over features of |correlation| with the matched latent; one to one, 0 where unmatched"
)

_POINTS: dict[str, Any] = {"change": "points", "better": "higher"}
_NUMBER: dict[str, Any] = {"scale": 1, "unit": "", "digits": 3}
_OVER_SAMPLE = "over a random sample of the latents, in which dead ones and unscored ones count as chance (50 %)"

OF_LATENTS: tuple[Metric, ...] = (  # of the study key `interpretability`
    _of_latents(
        "detection",
        "detection",
        "balanced accuracy of a judge who says, from a latent's explanation, in which windows of the text it "
        "fires: the mean of its recall of windows where it does and of random ones where it does not; "
        f"{_OVER_SAMPLE}",
        places=("final", "layer"),
        **_POINTS,
    ),
    _of_latents(
        "detection_failed",
        "detection, dead as failed",
        "detection over the same sample, where dead and unscored latents count 0",
        better="higher",
    ),
    _of_latents(
        "detection_alive",
        "detection of alive latents",
        "detection over those latents of the sample that are alive and could be scored",
        **_POINTS,
    ),
    _of_latents(
        "detection_weighted",
        "detection weighted by firing rate",
        "mean detection of those latents, each weighted by its firing rate: what the judge makes of a firing",
        **_POINTS,
    ),
    _of_latents(
        "detection_hard",
        "detection with hard negatives",
        "detection where the windows in which the latent is silent are hard ones: with its peak token, near its "
        "windows in meaning, or activating its nearest neighbour; the mean over the three kinds, "
        f"{_OVER_SAMPLE}",
        **_POINTS,
    ),
    _of_latents(
        "detection_hard_alive",
        "detection of alive latents with hard negatives",
        "the same over alive latents that could be scored",
        better="higher",
    ),
    _of_latents(
        "detection_same_token",
        "detection, same token",
        "detection where the other windows have the latent's peak token, and it is silent in them; over the "
        "sample",
        better="higher",
    ),
    _of_latents(
        "detection_similar",
        "detection, similar text",
        "detection where the other windows are the nearest in meaning, by the language model's own activations, "
        "in which the latent is silent; over the sample",
        better="higher",
    ),
    _of_latents(
        "detection_neighbour",
        "detection, neighbour",
        "detection where the other windows are those in which the latent is silent and its nearest neighbour by "
        "co-firing fires; over the sample",
        better="higher",
    ),
    _of_latents(
        "detection_permuted",
        "detection, explanations permuted",
        "detection of alive latents with the explanation of another latent: what the judge accepts from anybody; "
        "about 50 % if it is sound",
    ),
    _of_latents(
        "detection_strong",
        "recall of strong activations",
        "share of the windows with the strongest activations of a latent that the judge finds; mean over alive "
        "latents",
        better="higher",
    ),
    _of_latents(
        "detection_weak",
        "recall of weak activations",
        "share of the windows with the weakest activations of a latent that the judge finds; mean over alive "
        "latents",
        better="higher",
    ),
    _of_latents(
        "fuzzing",
        "fuzzing",
        "balanced accuracy of a judge who says, from the explanation, whether the highlighted tokens of a window "
        f"are those that the latent fires on; {_OVER_SAMPLE}",
        **_POINTS,
    ),
    _of_latents(
        "fuzzing_alive",
        "fuzzing of alive latents",
        "fuzzing over alive latents that could be scored",
        better="higher",
    ),
    _of_latents(
        "intruder",
        "intruder",
        "how often a judge without an explanation finds, among four windows of the latent, the one in which it is "
        "silent; over the sample, in which dead and unscored latents count as chance (20 %)",
        **_POINTS,
    ),
    _of_latents(
        "intruder_alive",
        "intruder of alive latents",
        "the same over alive latents that could be scored",
        better="higher",
    ),
    _of_latents(
        "latents_dead",
        "dead latents of the sample",
        "share of the sampled latents that fire on no token of the text on which latents are read",
        better="lower",
        places=("final", "layer"),
    ),
    _of_latents(
        "latents_dense",
        "dense latents",
        "share of the sampled latents that fire on more than 10 % of the tokens",
        better="lower",
    ),
    _of_latents(
        "latents_token_only",
        "token-only latents",
        "share of the sampled latents whose detection is at least 70 % with random negatives, and below 60 % with "
        "those that have the same peak token, or has none of these, since it fires wherever the token stands",
    ),
    _of_latents(
        "latents_unscored",
        "unscored latents",
        "share of the sampled latents that fire, but in too few windows to be explained and judged: fewer than "
        "two on either side",
        better="lower",
    ),
    _of_latents(
        "invalid_answers",
        "invalid answers",
        "share of the judge's answers that are not valid; they count as wrong",
        better="lower",
    ),
    _of_latents(
        "direction_cosine",
        "constancy of the direction",
        "mean cosine between what switching a latent off changes in the reconstruction at two different tokens, "
        "while later sparse layers code what is then left over: 1 for a latent that is a direction, as behind one "
        "linear decoder; over alive latents of the sample",
        axis="mean cosine between a latent's effects on two tokens",
        places=("final", "layer"),
        **(_POINTS | _NUMBER | {"bounds": (-1, 1)}),
    ),
    _of_latents(
        "direction_share",
        "first principal share",
        "share of the sum of squares of these changes along one line, the first principal direction of the "
        "changes at other tokens; over alive latents of the sample",
        better="higher",
    ),
    _of_latents(
        "logit_kl",
        "effect on next-token predictions",
        "mean KL divergence of the language model's predictions without the latent from its own, KL(own ‖ "
        "without), in nats, at the tokens on which it fires most; over alive latents of the sample",
        axis="KL divergence, nats",
        **(_NUMBER | {"unit": " nats", "digits": 4, "bounds": (0, None)}),
    ),
    _of_latents(
        "shallow_cosine",
        "nearness to a shallow SAE's latent",
        "cosine of a latent's mean direction with the nearest decoder row of the baseline's SAEs of other seeds, "
        "among rows of alive latents; over alive latents of the sample",
        axis="cosine with the nearest row of the baseline",
        **(_NUMBER | {"bounds": (-1, 1)}),
    ),
    _of_latents(
        "found_again",
        "latents found again",
        "share of all latents that the SAE of another seed has, too: a latent whose activations on the text "
        "correlate above 0.7 with this one's, one to one; dead ones count as not found; mean over the other seeds",
        pairs=True,
        **_POINTS,
    ),
    _of_latents(
        "found_again_weighted",
        "latents found again, weighted by firing rate",
        "the same, each latent weighted by its firing rate",
        better="higher",
        pairs=True,
    ),
)

_WITHIN_1_5M = _within("dead_fraction_1_5m_tokens", "1.5 million")
_WITHIN_10M = _within("dead_fraction_10m_tokens", "10 million")

METRICS: tuple[Metric, ...] = (  # in the order in which tables have them
    FVU,
    Metric(
        "nmse",
        "normalised MSE",
        axis="held-out normalised MSE",
        definition="mean over tokens of the squared error over the squared distance from the held-out mean: every "
        "token weighs the same, whatever its norm",
        better="lower",
        places=("final", "heldout"),
    ),
    Metric(
        "nmse_median",
        "median normalised MSE",
        axis="held-out median normalised MSE",
        definition="median over tokens of the squared error over the squared distance from the held-out mean",
        better="lower",
        measured_by=f"{ROBUST}:median_nmse",
    ),
    Metric(
        "nmse_layer_norm",
        "normalised MSE of layer-normed tokens",
        axis="held-out normalised MSE of layer-normed tokens",
        definition="mean over tokens of the squared error over the squared distance of the token from its own "
        "mean over dimensions, as after `inputs: layer_norm`; tokens that are constant over dimensions do not "
        "count",
        better="lower",
        measured_by=f"{ROBUST}:layer_norm_nmse",
    ),
    Metric(
        "fvu_trimmed",
        "trimmed FVU",
        axis="held-out trimmed FVU",
        definition="FVU of the 95 % of the held-out tokens that are nearest to the held-out mean, about their own "
        "mean: massive tokens have no part in it",
        better="lower",
        measured_by=f"{ROBUST}:trimmed_fvu",
    ),
    Metric(
        "fvu_dimensions",
        "FVU per dimension",
        axis="held-out FVU per dimension",
        definition="mean over dimensions of the FVU of each: every dimension weighs the same, whatever its "
        "variance",
        better="lower",
        measured_by=f"{ROBUST}:dimensions_fvu",
    ),
    Metric(
        "mse",
        "MSE",
        axis="held-out MSE",
        definition="mean over tokens and dimensions of the squared error, in the language model's own units",
        better="lower",
        places=("final", "heldout"),
    ),
    L0,
    DEAD,
    _WITHIN_1_5M[0],
    _WITHIN_10M[0],
    replace(
        DEAD,
        name="dead_fraction_all_tokens",
        label="dead on all held-out tokens",
        axis="dead on all held-out tokens, %",
        definition="share of the latents that fired on no held-out token",
        change=None,
        places=("final",),
    ),
    Metric(
        "alive",
        "alive latents",
        axis="latents alive on held-out tokens",
        definition="number of latents that are not dead",
        digits=0,
        better="higher",
    ),
    Metric(
        "effective_latents",
        "effective latents",
        axis="effective latents",
        definition="exp of the entropy of the latents' shares of all firings: their number if all fire equally "
        "often, 1 if one does all the firing",
        digits=0,
        better="higher",
    ),
    Metric(
        "unexplained",
        "unexplained after it",
        axis="unexplained after the layer",
        definition="sum of squares of what is left over after the layer / sum of squares of what the SAE is to "
        "reconstruct",
        better="lower",
        places=("layer",),
    ),
    LOSS_RECOVERED,
    replace(
        LOSS_RECOVERED,
        name="loss_recovered_mean",
        label="loss recovered (mean ablation)",
        axis="loss recovered (mean ablation), %",
        definition="the same with mean ablation, which puts the mean of the training activations in their place",
        change=None,
    ),
    CROSS_ENTROPY,
    replace(
        CROSS_ENTROPY,
        name="ce_loss_increase",
        label="cross-entropy added",
        axis="cross-entropy added, nats per token",
        definition="cross-entropy with the SAE less the language model's own, in nats per token",
        bounds=(None, None),
    ),
    replace(
        CROSS_ENTROPY,
        name="kl_divergence",
        label="KL divergence",
        axis="KL divergence, nats per token",
        definition="mean KL divergence of the predictions with the SAE from the language model's own, "
        "KL(own ‖ with the SAE), in nats per token",
    ),
    MCC,
    _feature("f1", "F1", "mean over features of the F1 of “the matched latent fires” for “the feature fires”"),
    _feature(
        "uniqueness",
        "uniqueness",
        "distinct features that firing latents correlate best with / the smaller of the counts of both",
    ),
    *OF_LATENTS,
    replace(
        FVU,
        label="training FVU",
        axis="training FVU",
        definition="sum of squared errors over the sum of squares of what the SAE sees, about the training mean "
        "(with `inputs: uncentred` or `layer_norm` about 0), on the batches since the last point, before the "
        "update that each one causes",
        change=None,
        measured_by=TRAINING,
        places=("train",),
    ),
    replace(
        L0,
        label="training L0",
        axis="training L0",
        definition="mean number of active latents per token on the batches since the last point",
        measured_by=TRAINING,
        places=("train",),
    ),
    SILENT,
    DIED,
    REVIVED,
    _WITHIN_1_5M[1],
    _WITHIN_10M[1],
)


def metrics_at(place: Place) -> tuple[Metric, ...]:
    """The metrics that are measured there."""
    return tuple(metric for metric in METRICS if place in metric.places)


def present(metrics: Iterable[Metric], measured: Container[str]) -> tuple[Metric, ...]:
    """Those of `metrics` to be shown: all but the optional ones that `measured`, names with values, lacks."""
    return tuple(metric for metric in metrics if not metric.optional or metric.name in measured)


def compared(metrics: Iterable[Metric]) -> tuple[Metric, ...]:
    """Those of `metrics` that arms are compared by."""
    return tuple(metric for metric in metrics if metric.change is not None)


def curve_columns() -> dict[str, Metric]:
    """What points of curves have: `heldout_fvu`, `train_l0` and so on, with their metrics."""
    return {f"{place}_{metric.name}": metric for place in CURVES for metric in metrics_at(place)}


PLACES: dict[Place, str] = {
    "final": "after training",
    "layer": "each sparse layer",
    "heldout": "curves (held out)",
    "train": "curves (training)",
}


def markdown_table() -> str:
    """The table of docs/definitions.md."""
    head = ("name", "metric", "definition", "better", "range", "where")
    rows = [head, tuple("---" for _ in head), *(_documented(metric) for metric in METRICS)]
    return "".join(f"| {' | '.join(row)} |\n" for row in rows)


def _documented(metric: Metric) -> tuple[str, ...]:
    definition = metric.defined().replace("|", "\\|")
    where = ", ".join(PLACES[place] for place in metric.places)
    if metric.optional:
        where += f"; {metric.optional}"
    return f"`{metric.name}`", metric.label, definition, metric.better or "", _range(metric), where


def _range(metric: Metric) -> str:
    """The values that it can have as they are shown, as in `0 to 100 %` or `0 or more`."""
    low, high = (None if bound is None else f"{metric.scale * bound:g}" for bound in metric.bounds)
    if low is None or high is None:
        return f"{low} or more" if low else f"{high} or less" if high else "any"
    return f"{low} to {high}{metric.unit}"
