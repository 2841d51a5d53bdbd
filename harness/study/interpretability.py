"""What a study asks about the meaning of its latents: the key `interpretability` of a study file."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field

from harness.study.judges import RUNNING, Judging, Rules, read_judge
from harness.yaml_file import Strict, YamlFile, file_name

# What trained SAEs are compared with in every study: SAEs that are not trained, as people know them
NULLS = {"neurons": "raw neurons", "principal_components": "principal components"}
PERMUTED = "permuted"  # each latent with the explanation of another one
Count = Annotated[int, Field(ge=1, le=10_000)]
StudyName = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]{0,99}$")]


class Interpretability(Strict):
    """How latents are sampled, which windows of the held-out text are shown, and who judges.

    latents: per SAE, drawn at random, dead ones among them. windows: activating ones that a latent is judged by,
    and as many of each kind of negatives. to_explain: activating ones that an explanation is made of, from the
    other half of the documents. draws: how often all of these are drawn, each time anew. nulls: studies whose
    baselines are nulls of this one, besides untrained SAEs and permuted explanations, which every study has.
    """

    latents: Annotated[int, Field(ge=2, le=200_000)] = 200
    tokens: Annotated[int, Field(ge=1_000)] = 131_072  # of the held-out text, at most
    window: Annotated[int, Field(ge=8, le=512)] = 32  # tokens
    quantiles: Annotated[int, Field(ge=1, le=20)] = 5  # of activation, each with as many windows
    windows: Annotated[int, Field(ge=2, le=200)] = 20
    to_explain: Annotated[int, Field(ge=2, le=1_000)] = 100
    draws: Annotated[int, Field(ge=1, le=20)] = 2
    seed: Annotated[int, Field(ge=0, lt=2**31)] = 0
    judge: Judging = Rules()
    nulls: list[StudyName] = Field(default=[])  # as one of a language model of random weights


def read_interpretability(file: YamlFile, raw: object) -> Interpretability | None:
    """What stands under the key; None where nothing does. Raises UserError."""
    if raw is None:
        return None
    if isinstance(raw, dict) and "judge" in raw:
        raw = {**raw, "judge": read_judge(file, raw["judge"])}
    found: Interpretability = file.check(Interpretability, raw, ("interpretability",))
    for name in found.nulls:
        if name in (file_name(file), *NULLS, PERMUTED):
            raise file.error(("interpretability", "nulls"), f"expected names of other studies, got {name!r}")
    return found


def settings_of(asked: Interpretability) -> dict[str, Any]:
    """All that decides the figures of cells, as JSON has it."""
    return asked.model_dump(mode="json", exclude={"nulls": True, "judge": set(RUNNING)})
