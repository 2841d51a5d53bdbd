"""Latents on a small text, and what a judge is asked about them, without a language model.

Run as a program, it asks an endpoint all of it: `python -m tests.interpretability.judged SETTINGS CALLS ANSWERS`.
"""

import json
import sqlite3
import sys
import time
from contextlib import closing
from pathlib import Path

import numpy as np

from harness.interpretability.endpoint.asking import Asking
from harness.interpretability.endpoint.judge import EndpointJudge
from harness.interpretability.judging import Evidence, Excerpt, Question
from harness.study.judges import Endpoint

WORDS = [
    "river",
    "stone",
    "cloud",
    "amber",
    "quiet",
    "northern",
    "lantern",
    "copper",
    "meadow",
    "harbour",
    "violet",
]
LENGTH = 12  # tokens of a window
LATENTS = 6


class Vocabulary:
    """A token is a word and a space."""

    def decode(self, ids, skip_special_tokens, clean_up_tokenization_spaces):
        assert not skip_special_tokens
        assert not clean_up_tokenization_spaces
        return "".join(f"{WORDS[one]} " for one in ids)


def windows_of(latent: int, count: int, active: bool, seed: int) -> np.ndarray:
    """Windows that have the latent's word, or that do not: [count, L]."""
    random = np.random.default_rng([latent, active, seed])
    others = [word for word in range(len(WORDS)) if word != latent]
    ids = random.choice(others, (count, LENGTH))
    if active:
        ids[np.arange(count), random.integers(LENGTH, size=count)] = latent
    return ids


def evidence(latent: int) -> Evidence:
    ids = np.concatenate([windows_of(latent, 30, True, 0), windows_of(latent, 30, False, 0)])
    strength = np.linspace(0.5, 4, len(ids), dtype=np.float32)
    return Evidence(ids, (ids == latent) * strength[:, None])


def questions(latent: int, explanation) -> list[Question]:
    """Detection of 12 windows, half of them active; fuzzing of 6, every other one right; one intruder."""
    active, silent = windows_of(latent, 6, True, 1).tolist(), windows_of(latent, 6, False, 1).tolist()
    unmarked = (False,) * LENGTH
    detection = tuple(Excerpt(tuple(ids), unmarked) for ids in (*active, *silent))
    right = [tuple(one == latent for one in ids) for ids in active]
    wrong = [mark[1:] + mark[:1] for mark in right]
    fuzzing = tuple(Excerpt(tuple(ids), (wrong if i % 2 else right)[i]) for i, ids in enumerate(active))
    intruder = tuple(Excerpt(tuple(ids), right[i]) for i, ids in enumerate(active[:4]))
    intruder += (Excerpt(tuple(silent[0]), (True, *unmarked[1:])),)
    return [
        Question("detection", explanation, detection),
        Question("fuzzing", explanation, fuzzing),
        Question("intruder", None, intruder),
    ]


def endpoint(url: str, **settings) -> Endpoint:
    return Endpoint(kind="endpoint", url=url, model="small", **settings)


def judge(asked: Endpoint, calls: Path) -> EndpointJudge:
    return EndpointJudge(asked, Vocabulary(), Asking(asked, calls))


def ask_all(judge, repetitions: int = 1) -> list[list]:
    """The answers to everything, of each latent and repetition."""
    explained = judge.explain([evidence(latent) for latent in range(LATENTS)])
    asked = [each for latent, one in enumerate(explained) for each in questions(latent, one)]
    return [[list(answer) for answer in judge.answer(asked, repetition)] for repetition in range(repetitions)]


def kept(calls: Path) -> int:
    """How many replies a file has."""
    try:
        with closing(sqlite3.connect(calls)) as file:
            return int(file.execute("SELECT count(*) FROM replies").fetchone()[0])
    except sqlite3.Error:
        return 0


def wait_until_kept(calls: Path, answered: list[str]) -> None:
    """Until the process that asks has written all replies that were sent to it."""
    until = time.monotonic() + 30
    while kept(calls) < len(answered):
        assert time.monotonic() < until
        time.sleep(0.01)


if __name__ == "__main__":
    settings, calls, answers = sys.argv[1:]
    asked = Endpoint(**json.loads(settings))
    Path(answers).write_text(json.dumps(ask_all(judge(asked, Path(calls)), asked.repetitions)))
