"""Asks a judge about latents, and what it answered, one row per excerpt (`answers.parquet`).

Shape letters: R rows: what is known of a question's excerpts.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from harness.interpretability.examples import ACTIVATING, Examples
from harness.interpretability.judging import Answer, Evidence, Explanation, Judge
from harness.interpretability.questions import RANDOM, Asked, questions_of
from harness.interpretability.windows import Windows

LEAST = 2  # windows in which a latent fires, and random ones in which it does not, on either side
AT_ONCE = 256  # latents and draws that a judge is asked about at once; their windows are in memory together

# answer: null where it was not valid, which is not right. quantile: null for negatives
ANSWERS = pa.schema(
    [
        ("latent", pa.int32()),
        ("draw", pa.int8()),
        ("repetition", pa.int8()),
        ("score", pa.string()),
        ("kind", pa.string()),
        ("quantile", pa.int8()),
        ("answer", pa.bool_()),
        ("right", pa.bool_()),
        ("permuted", pa.bool_()),
    ]
)


class Asking(NamedTuple):
    """What came of it: an explanation per latent and draw, and the rows of `ANSWERS`."""

    explanations: dict[tuple[int, int], Explanation]
    answers: pa.Table


def is_scored(examples: Examples) -> bool:
    """Whether there are enough windows of a latent: none are there of a dead one, or of one that fires in all."""
    return all(
        len(examples.only(kind, to_explain=side)) >= LEAST
        for kind in (ACTIVATING, RANDOM)
        for side in (True, False)
    )


def ask(judge: Judge, drawn: Iterable[Examples], windows: Windows, seed: int, repetitions: int = 1) -> Asking:
    """Explain and judge latents: one explanation and one of each kind of questions per latent and draw.

    Those without enough windows are left out. Detection is asked again with the explanation of another latent.
    """
    scored = (examples for examples in drawn if is_scored(examples))
    explanations: dict[tuple[int, int], Explanation] = {}
    tables = [ANSWERS.empty_table()]
    for number, block in enumerate(_blocks(scored)):
        explained = judge.explain([_evidence(examples, windows) for examples in block])
        explanations |= {(e.latent, e.draw): found for e, found in zip(block, explained, strict=True)}
        others = _of_others(block, explained, np.random.default_rng([seed, 4, number]))
        asked = [
            question
            for examples, explanation, other in zip(block, explained, others, strict=True)
            for question in questions_of(examples, windows, explanation, seed, other)
        ]
        for repetition in range(repetitions):
            answers = judge.answer([each.question for each in asked], repetition)
            tables.append(_table(asked, answers, repetition))
    return Asking(explanations, pa.concat_tables(tables))


def _blocks(drawn: Iterator[Examples]) -> Iterator[list[Examples]]:
    while block := list(islice(drawn, AT_ONCE)):
        yield block


def _evidence(examples: Examples, windows: Windows) -> Evidence:
    here = examples.to_explain
    return Evidence(windows.ids[examples.windows[here]], examples.activations[here])


def _of_others(
    block: Sequence[Examples], explained: Sequence[Explanation], random: np.random.Generator
) -> list[Explanation | None]:
    """For each of the block the explanation of another latent of its draw; None where it is alone."""
    found: list[Explanation | None] = [None] * len(block)
    draws = np.array([examples.draw for examples in block])
    for draw in np.unique(draws):
        circle = random.permutation(np.flatnonzero(draws == draw))
        if len(circle) > 1:
            for here, other in zip(circle, np.roll(circle, 1), strict=True):
                found[here] = explained[other]
    return found


def _table(asked: Sequence[Asked], answers: Sequence[Answer], repetition: int) -> pa.Table:
    """One row per row of the questions."""
    if not asked:
        return ANSWERS.empty_table()
    sizes = [len(each.kinds) for each in asked]
    given = np.concatenate([_given(each, answer) for each, answer in zip(asked, answers, strict=True)])
    quantile, expected, kind = (
        np.concatenate(parts)
        for parts in zip(*((each.quantiles, each.expected, each.kinds) for each in asked), strict=True)
    )

    def repeated(values: list[Any]) -> NDArray[Any]:
        return np.repeat(np.array(values), sizes)

    columns = {
        "latent": repeated([each.latent for each in asked]),
        "draw": repeated([each.draw for each in asked]),
        "repetition": np.full(len(given), repetition),
        "score": repeated([each.question.score for each in asked]),
        "kind": kind,
        "quantile": pa.array(quantile, pa.int8(), mask=quantile < 0),
        "answer": pa.array(given == 1, mask=given < 0),
        "right": given == expected,
        "permuted": repeated([each.permuted for each in asked]),
    }
    return pa.table([pa.array(columns[field.name], field.type) for field in ANSWERS], schema=ANSWERS)


def _given(asked: Asked, answer: Answer) -> NDArray[np.int8]:
    """The answers of the question's rows: 1 for yes, 0 for no, -1 where there was no valid one: [R]."""
    if len(answer) != len(asked.question.excerpts):
        raise ValueError(f"expected {len(asked.question.excerpts)} answers to a question, got {len(answer)}")
    return np.array([-1 if each is None else each for each in answer], np.int8)[asked.excerpts]
