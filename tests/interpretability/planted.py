"""A text in which it is known what each latent fires on; made as it is, without a model or an SAE.

Words are tokens. A context is a document about one of `TOPICS` topics: of its words, a part is the topic's own,
all others are common ones. What a latent fires on depends on nothing that its kind does not say.

Shape letters: C contexts, S positions of a context, T tokens of the text, N latents.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from harness.evaluation.language_model import OpenedModel, Place
from harness.interpretability.firings import Firings
from harness.interpretability.text import Text

CONTEXT = 64  # S
TOPICS, TOPIC_WORDS, COMMON = 8, 12, 104
VOCABULARY = COMMON + TOPICS * TOPIC_WORDS  # 200
OF_TOPIC = 0.35  # of a context's words
PAIRS = 4  # together at 2 % of the places: one common word, then another
IN_CONTEXT = 32  # the first of the words that are more frequent: 2 % each
WIDTH = 32  # of the activations: words and topics, from which nothing about single latents can be read

# What a latent fires on:
KINDS = (
    "token",  # each occurrence of one common word
    "leaky_token",  # 7 in 10 occurrences of one common word, which ones is random
    "bigram",  # a common word where one other word is before it; it stands without that just as often
    "topic",  # 3 in 10 tokens of the documents of one topic, whatever they are
    "token_in_context",  # a common word, but in documents of one topic only; it is as common in all others
    "random",  # some tokens anywhere: 1 in 200
    "dense",  # 4 in 10 tokens anywhere
    "dead",  # none
)
EACH = 4  # latents of each kind


@dataclass(frozen=True)
class Planted:
    """latents: of each kind, by its name. tokens: of each latent that fires on one word, the word's token."""

    text: Text
    firings: Firings
    latents: dict[str, tuple[int, ...]]
    tokens: dict[int, int]
    topics: NDArray[np.int64]  # of the contexts [C]


class Words:
    """As much of a tokenizer of `transformers` as reading latents needs: token 7 is the word ` w7`."""

    all_special_ids: Sequence[int] = ()
    eos_token_id = None

    def decode(self, ids: Any, **_: Any) -> str:
        return "".join(self.convert_ids_to_tokens(np.atleast_1d(np.asarray(ids)).tolist()))

    def batch_decode(self, sequences: Sequence[Any], **_: Any) -> list[str]:
        return [self.decode(ids) for ids in sequences]

    def convert_ids_to_tokens(self, ids: Sequence[int]) -> list[str]:
        return [f" w{token}" for token in ids]

    def __len__(self) -> int:
        return VOCABULARY


def planted(contexts: int = 512, seed: int = 0) -> Planted:
    """C contexts of 64 tokens, and 4 latents of each kind; the same for the same seed."""
    random = np.random.default_rng(seed)
    topics = random.permutation(np.arange(contexts) % TOPICS)
    ids = _words(topics, random)
    flat, topic = ids.ravel(), np.repeat(topics, CONTEXT)
    before = np.where(np.arange(len(flat)) % CONTEXT, np.roll(flat, 1), -1)
    masks: list[NDArray[np.bool_]] = []
    tokens: dict[int, int] = {}
    for kind in KINDS:
        for number in range(EACH):
            word = {"token": 8, "leaky_token": 20, "token_in_context": IN_CONTEXT}.get(kind, 0) + number
            if kind in ("token", "leaky_token", "token_in_context"):
                tokens[len(masks)] = word
            elif kind == "bigram":
                tokens[len(masks)] = _pair(number)[1]
            chance = random.random(len(flat))
            masks.append(
                {
                    "token": flat == word,
                    "leaky_token": (flat == word) & (chance < 0.7),
                    "bigram": (flat == _pair(number)[1]) & (before == _pair(number)[0]),
                    "topic": (topic == number) & (chance < 0.3),
                    "token_in_context": (flat == word) & (topic == number),
                    "random": chance < 1 / 200,
                    "dense": chance < 0.4,
                    "dead": np.zeros(len(flat), bool),
                }[kind]
            )
    return Planted(
        _text(ids, topics, random),
        firings_from(masks, random),
        {kind: tuple(range(n * EACH, (n + 1) * EACH)) for n, kind in enumerate(KINDS)},
        tokens,
        topics,
    )


def firings_from(masks: Sequence[NDArray[np.bool_]], random: np.random.Generator) -> Firings:
    """Of latents that fire where their mask [T] says, with random values between 0.5 and about 5; one coder."""
    tokens = [np.flatnonzero(mask) for mask in masks]
    latents = np.repeat(np.arange(len(masks)), [len(here) for here in tokens])
    values = (0.5 + random.gamma(2.0, 0.7, len(latents))).astype(np.float32)
    return Firings(np.concatenate(tokens), latents, values, len(masks[0]), (len(masks),))


def text_from(ids: NDArray[np.int64], x: NDArray[np.float32], rows: NDArray[np.int64] | None = None) -> Text:
    """A text of contexts [C, S] with activations [T, I]; all positions are kept unless `rows` says otherwise."""
    nowhere = Place(nn.Identity())
    opened = OpenedModel(None, Words(), nowhere, nowhere, SimpleNamespace(), torch.zeros(x.shape[1]))  # type: ignore[arg-type]
    rows = np.arange(ids.size).reshape(ids.shape) if rows is None else rows
    activations = torch.from_numpy(x)
    return Text(ids, rows, activations, activations, opened)


def _pair(number: int) -> tuple[int, int]:
    """The words of a bigram."""
    return 2 * number, 2 * number + 1


def _words(topics: NDArray[np.int64], random: np.random.Generator) -> NDArray[np.int64]:
    """The text's tokens [C, S]."""
    shape = (len(topics), CONTEXT)
    words = random.integers(0, COMMON, shape)
    of_topic = COMMON + topics[:, None] * TOPIC_WORDS + random.integers(0, TOPIC_WORDS, shape)
    ids = np.where(random.random(shape) < OF_TOPIC, of_topic, words)
    frequent = random.random(shape) < 0.08
    ids[frequent] = random.integers(IN_CONTEXT, IN_CONTEXT + EACH, int(frequent.sum()))
    for context, position in np.argwhere(random.random((len(topics), CONTEXT - 1)) < 0.02):
        ids[context, position : position + 2] = _pair(int(random.integers(PAIRS)))
    return ids


def _text(ids: NDArray[np.int64], topics: NDArray[np.int64], random: np.random.Generator) -> Text:
    """Activations: a direction of the token and one of the document's topic, and noise."""
    of_words, of_topics = (random.standard_normal((n, WIDTH)) for n in (VOCABULARY, TOPICS))
    x = of_words[ids.ravel()] + of_topics[np.repeat(topics, CONTEXT)]
    x += 0.3 * random.standard_normal(x.shape)
    return text_from(ids, x.astype(np.float32))
