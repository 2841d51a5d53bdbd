"""A language model that runs on held-out text, with other activations in place of its own.

Shape letters: C contexts (c of a batch), S positions of a context, T kept positions of all contexts (t of a
batch), which are those that have activations, n positions of a batch whose predictions count, I width of what an
SAE reads, D of what it replaces (the same, but for a transcoder), V vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from functools import cached_property, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import torch
from torch import Tensor, nn

from harness.study.memory import FLOAT, LOGITS, PREDICTIONS

if TYPE_CHECKING:
    from harness.activations.held_out_text import HeldOutText


class Place(NamedTuple):
    """What a module is given (its first argument), or what it makes (the first of a tuple)."""

    module: nn.Module
    side: Literal["input", "output"] = "output"


class Batch(NamedTuple):
    """The contexts of one pass."""

    ids: Tensor  # [c, S], int64
    kept: Tensor  # [c, S], bool
    mask: Tensor | None  # [c, S], False at padding; None where there is none
    rows: slice  # which of the T kept positions are here

    @property
    def scored(self) -> Tensor:
        """The positions whose predictions count, [c, S - 1]: they are kept, and a token follows in the context."""
        kept = self.kept[:, :-1]
        return kept if self.mask is None else kept & self.mask[:, 1:]

    @property
    def next_tokens(self) -> Tensor:
        """The tokens that are to be predicted there: [n]."""
        return self.ids[:, 1:][self.scored]

    def losses(self, log_probs: Tensor) -> Tensor:
        """Cross-entropy in nats, [n], of predictions [n, V]."""
        return -log_probs.gather(1, self.next_tokens[:, None]).squeeze(1)


class Prediction(NamedTuple):
    """What the model itself predicts in a batch."""

    probabilities: Tensor  # [n, V]
    entropy: Tensor  # [n], in nats

    @classmethod
    def of(cls, log_probs: Tensor) -> Prediction:
        probabilities = log_probs.exp()
        return cls(probabilities, cross_entropies(probabilities, log_probs))

    def divergence(self, log_probs: Tensor) -> Tensor:
        """KL(this || other) in nats, [n], from the other's log-probabilities [n, V]; exactly 0 for the same ones.

        To about 1e-6, as a difference of cross-entropies. Each of them is one product, which takes a quarter of
        the time of the sum of p (log p - log q).
        """
        return cross_entropies(self.probabilities, log_probs) - self.entropy


class Alone(NamedTuple):
    """What the model comes to by itself."""

    inputs: Tensor  # [T, I], float32: what an SAE reads at the kept positions
    loss: float  # in nats per token
    predictions: list[Prediction] | None  # of each batch; None: too many to keep


class LanguageModelRun:
    """A language model and held-out contexts. What is the same for all SAEs is computed once.

    Activations are replaced at all kept positions; everywhere else the model's own stay. Losses are means over the
    kept positions behind which a token follows in their context.
    """

    def __init__(
        self,
        model: Any,
        reads: Place,
        replaces: Place,
        contexts: tuple[Tensor, Tensor, Tensor | None],
        mean: Tensor,
    ) -> None:
        """model: one of `transformers`, in evaluation mode, on the device of the tensors.

        reads: where an SAE's input is. replaces: where its reconstruction goes; for an SAE the same place.
        contexts: token ids [C, S], whether positions are kept [C, S], and the attention mask [C, S] if there is
        padding. mean: [D], of training activations at `replaces`, for mean ablation.
        """
        self._model = model
        self._reads, self._replaces, self._mean = reads, replaces, mean
        ids, kept, mask = contexts
        self._vocabulary = vocabulary_of(model)
        self.batches = list(_batches(ids, kept, mask, ids.shape[1] * self._vocabulary))

    @cached_property
    def alone(self) -> Alone:
        """The model's own activations and predictions, of one pass."""
        inputs: list[Tensor] = []
        losses: list[Tensor] = []
        kept: list[Prediction] = []
        positions = sum(len(batch.next_tokens) for batch in self.batches)
        room = FLOAT * positions * self._vocabulary <= PREDICTIONS
        for batch in self.batches:
            with _first_states(self._reads, _taking(inputs, batch.kept)):
                log_probs = self._log_probs(batch)
            losses.append(batch.losses(log_probs))
            kept += [Prediction.of(log_probs)] if room else []
        return Alone(torch.cat(inputs), mean_of(losses), kept if room else None)

    @cached_property
    def loss_with_zeros(self) -> float:
        """With zero ablation: all kept activations are 0."""
        return self._loss_with(torch.zeros_like(self._mean))

    @cached_property
    def loss_with_mean(self) -> float:
        """With mean ablation: all kept activations are the mean of the training activations."""
        return self._loss_with(self._mean)

    def predictions(self, rows: Tensor) -> Iterator[tuple[Batch, Prediction, Tensor]]:
        """Each batch, the model's own prediction, and the log-probabilities [n, V] with rows [T, D] in place."""
        remembered = self.alone.predictions
        for number, batch in enumerate(self.batches):
            own = Prediction.of(self._log_probs(batch)) if remembered is None else remembered[number]
            yield batch, own, self._with(rows[batch.rows], batch)

    def _loss_with(self, row: Tensor) -> float:
        """Where every kept activation is `row` [D]."""
        losses = []
        for batch in self.batches:
            rows = row.expand(batch.rows.stop - batch.rows.start, -1)
            losses.append(batch.losses(self._with(rows, batch)))
        return mean_of(losses)

    def _with(self, rows: Tensor, batch: Batch) -> Tensor:
        """The log-probabilities [n, V] with rows [t, D] at the kept positions of the batch."""

        def put(states: Tensor) -> Tensor:
            return states.masked_scatter(batch.kept[..., None].to(states.device), rows.to(states))

        with _first_states(self._replaces, put):
            return self._log_probs(batch)

    @torch.inference_mode()
    def _log_probs(self, batch: Batch) -> Tensor:
        """Log-probabilities [n, V], float32."""
        padding = {}
        if batch.mask is not None:  # positions are counted from the first token, on whichever side padding is
            places = (batch.mask.cumsum(1) - 1).clamp_min(0)
            padding = {"attention_mask": batch.mask.long(), "position_ids": places}
        logits: Tensor = self._model(input_ids=batch.ids, use_cache=False, **padding).logits
        return logits[:, :-1][batch.scored].float().log_softmax(1)


@torch.inference_mode()
def log_probs_at(
    model: Any,
    ids: Tensor,
    positions: Tensor,
    padding: Mapping[str, Tensor],
    changed: tuple[Place, Callable[[Tensor], Tensor]] | None = None,
) -> Tensor:
    """Log-probabilities [c, V], float32, of the token behind one position [c] of each context: ids [c, S].

    padding: what the model is told of it. changed: a place, and what becomes of its states [c, S, width].
    """
    with nullcontext() if changed is None else _first_states(*changed):
        logits: Tensor = model(input_ids=ids, use_cache=False, **padding).logits
    return logits[torch.arange(len(ids), device=ids.device), positions].float().log_softmax(1)


def vocabulary_of(model: Any) -> int:
    """V. A model that sees or hears, too, has it in the part of its configuration about its language model."""
    return int(model.config.get_text_config().vocab_size)


def cross_entropies(probabilities: Tensor, log_probs: Tensor) -> Tensor:
    """Of two distributions each [n, V], in nats: [n]."""
    return -torch.einsum("nv,nv->n", probabilities, log_probs)


def mean_of(losses: list[Tensor]) -> float:
    """The mean of the numbers in all of them, in float64."""
    return float(torch.cat(losses).double().mean())


def _batches(ids: Tensor, kept: Tensor, mask: Tensor | None, logits: int) -> Iterator[Batch]:
    """All contexts; logits: how many numbers those of one context are."""
    size = max(1, LOGITS // (FLOAT * logits))
    counts = kept.sum(1).cumsum(0).tolist()
    for start in range(0, len(ids), size):
        here = slice(start, start + size)
        rows = slice(counts[start - 1] if start else 0, counts[min(start + size, len(ids)) - 1])
        yield Batch(ids[here], kept[here], None if mask is None else mask[here], rows)


def _taking(inputs: list[Tensor], kept: Tensor) -> Callable[[Tensor], None]:
    def take(states: Tensor) -> None:
        inputs.append(states[kept.to(states.device)].float().to(kept.device))

    return take


@contextmanager
def _first_states(place: Place, change: Callable[[Tensor], Tensor | None]) -> Iterator[None]:
    """Within the block, give `change` the states [c, S, width] at a place; what it returns takes their place.

    Only the first time that the module is called, as activations are captured.
    """
    seen = False

    def changed(states: Any) -> Any:
        nonlocal seen
        if seen:
            return states
        seen = True
        if isinstance(states, tuple):
            first = change(states[0])
            return states if first is None else (first, *states[1:])
        found = change(states)
        return states if found is None else found

    def before(_module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if args:
            return (changed(args[0]), *args[1:]), kwargs
        name = next(iter(kwargs))
        return args, {**kwargs, name: changed(kwargs[name])}

    if place.side == "output":
        handle = place.module.register_forward_hook(lambda _module, _args, output: changed(output))
    else:
        handle = place.module.register_forward_pre_hook(before, with_kwargs=True)
    try:
        yield
    finally:
        handle.remove()


class OpenedModel(NamedTuple):
    """The language model behind an activation store, and where SAEs read and replace its activations."""

    model: Any
    tokenizer: Any
    reads: Place
    replaces: Place
    text: HeldOutText  # all of it
    mean: Tensor  # [D], of training activations at `replaces`


def open_model_of(store: Path, device: torch.device) -> OpenedModel:
    """The model and the held-out text behind an activation store.

    Raises UserError if the model is not there, or is not the one whose activations were captured.
    """
    from harness.activations.held_out_text import read_held_out_text
    from harness.activations.pretrained_model import load_model, open_model
    from harness.activations.store import ActivationStore
    from harness.activations.stream_file import STREAM, StreamFile

    opened = ActivationStore.open(store)
    about = opened.manifest["text"]
    if (store / STREAM).is_file():
        spec = StreamFile.read(store)
        model, tokenizer = open_model(spec.model, spec.model_fingerprint, device, spec.error)
    else:
        folder = store / about["model"]
        opened.check_model(folder)
        model, tokenizer = load_model(folder)
        model = model.to(device)
    text = read_held_out_text(store, about)
    places = (about["reads"], about["replaces"])
    reads, replaces = (Place(model.get_submodule(place["module"]), place["side"]) for place in places)
    mean = torch.from_numpy((opened.targets or opened).mean).to(device)
    return OpenedModel(model, tokenizer, reads, replaces, text, mean)


@lru_cache(maxsize=1)
def open_run(store: str, device: str) -> LanguageModelRun:
    """The model and the head of the text behind an activation store, as long as no other is asked for.

    Raises UserError as `open_model_of` does.
    """
    opened = open_model_of(Path(store), torch.device(device))
    text = opened.text.head()
    ids, kept = (torch.from_numpy(part).to(device) for part in (text.ids, text.kept))
    mask = None if text.mask is None else torch.from_numpy(text.mask).to(device)
    return LanguageModelRun(opened.model, opened.reads, opened.replaces, (ids, kept, mask), opened.mean)
