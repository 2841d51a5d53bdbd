"""One cell in training: the model, its optimizers, its counters, and one step of all of them.

Shape letters: B tokens, I width of the input and D of the target (one and the same for an SAE), N latents of all
coders.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import asdict
from typing import Any

import torch
from torch import Tensor

from harness.sae import gpu
from harness.sae.calibration import calibrate
from harness.sae.dimension_norm import normalise_dimensions, project_dimensions, start_kaiming
from harness.sae.model import SAE, SAEOutput
from harness.study.catalogue import OPTIMIZERS, SPARSIFIERS, architecture, parse_layers, terms_of
from harness.study.recipe import Recipe, check_transcoder
from harness.training.backward import Indivisible, StepOutput, backward
from harness.training.centring import Centring
from harness.training.fused_adam import RATES
from harness.training.graph import Graph
from harness.training.inputs import inputs_of
from harness.training.loss import active_at, resamples_at
from harness.training.metrics import EVALUATION_BATCH, WINDOWS
from harness.training.optimizers import averaged_weights, build_optimizers, clip, learning_rate, set_learning_rate
from harness.training.resampling import LossSamples, resample
from harness.training.state import pack, unpack
from harness.training.step_numbers import StepNumbers


def initial_sae(recipe: Recipe, width: int, target_width: int | None = None) -> SAE:
    """The SAE of a recipe before its first step, on a CPU, in training mode; a transcoder with a `target_width`.

    Raises SettingError for a transcoder whose recipe only fits an SAE.
    """
    if target_width is not None:
        check_transcoder(recipe)
    layers, generator = parse_layers(recipe.layers), torch.Generator().manual_seed(recipe.seed)
    sae: SAE = architecture(recipe.layers).load()(
        width,
        recipe.latents,
        recipe.k,
        encoder=layers.encoder,
        decoder=layers.decoder,
        stack=layers.stack,
        sparsifier=SPARSIFIERS[recipe.sparsifier].load(),
        generator=generator,
        target_width=target_width,
    )
    if recipe.initial_weights == "kaiming":
        start_kaiming(sae, generator)
        if recipe.decoder_norm == "unit":
            sae.normalise_decoders()
    elif recipe.decoder_norm == "unit_per_dimension":
        normalise_dimensions(sae)
    if any(term.every_pre_activation for term in terms_of(recipe)):
        for coder in sae.stack():
            coder.shortlist = False
    return sae


class Cell:
    """A recipe being trained on activations of `width` dimensions.

    centring: what centred and scaled the activations; nothing did if left out. target_width, target_centring: the
    same of a transcoder's targets; without a width it is an SAE.
    Everything that the remaining steps depend on is in `state()`: a cell that is loaded from it goes on with
    the same bits as one that was never interrupted.

    micro_batches: parts in which a batch is trained on and measured, to need less memory; the same to rounding.
    Raises Indivisible if there are several and the recipe allows none; SettingError as `initial_sae` does.
    """

    def __init__(
        self,
        recipe: Recipe,
        width: int,
        device: torch.device,
        centring: Centring | None = None,
        micro_batches: int = 1,
        target_width: int | None = None,
        target_centring: Centring | None = None,
    ) -> None:
        sae = initial_sae(recipe, width, target_width)
        if micro_batches > 1 and any(coder.sparsifier.WHOLE_BATCH for coder in sae.stack()):
            raise Indivisible(f"{recipe.sparsifier} selects from whole batches, which micro-batches cannot")
        self.recipe = recipe
        self.micro_batches = micro_batches
        self.evaluation_batch = EVALUATION_BATCH // micro_batches  # tokens
        self.sae = sae.to(device)
        if recipe.aux_k and gpu.holds(self.sae.decoders()[0]):  # there it looks through all pre-activations
            for coder in self.sae.stack():
                coder.shortlist = False
        self.inputs = inputs_of(recipe)
        self.centring = (centring or Centring.none(width)).to(device)
        self.target_centring = self.centring  # that of what it reconstructs
        if target_width is not None:
            self.target_centring = (target_centring or Centring.none(target_width)).to(device)
        self.optimizers = build_optimizers(recipe, self.sae)
        unit = self.sae.decoders() if recipe.decoder_norm == "unit" else []
        fused = OPTIMIZERS[recipe.optimizer].load_fused()
        fits = fused and recipe.decoder_norm != "unit_per_dimension" and fused.fits(self.optimizers, unit)
        read = [p for c in sae.stack() for p in (c.encoder, c.decoder)] if recipe.precision == "bfloat16" else []
        self._fused = fused(self.optimizers, unit, recipe.gradient_clip, read) if fits else None
        captured = device.type == "cuda" and gpu.kernels() is not None and micro_batches == 1
        self._graph = Graph(self.sae.parameters()) if captured else None
        self.step_index = 0
        self._numbers = StepNumbers(recipe.batch, RATES if fits else 0, device)
        self.last_fired = torch.zeros(sae.latents, dtype=torch.int64, device=device)  # [N]: token count then
        self.restarted = torch.zeros_like(self.last_fired)  # [N]: token count at the last resampling
        self.was_silent = torch.zeros_like(self.last_fired, dtype=torch.bool)  # [N]: when last drained
        self.sums = torch.zeros(3, dtype=torch.float64, device=device)  # squared error, squares, firings
        self.tokens_summed = 0
        self.calibrated = SPARSIFIERS[recipe.sparsifier].calibrated  # before it is measured
        self.calibration: dict[str, Any] | None = None  # what that last came to

    @property
    def tokens(self) -> int:
        """Tokens trained on so far."""
        return self.step_index * self.recipe.batch

    def silent(self, window: int) -> Tensor:
        """Latents that have not fired within the last `window` tokens: [N], bool."""
        return self.tokens - self.last_fired >= window

    def dead(self) -> Tensor:
        """Those of them that remedies are for, [N], bool: a latent that started again has a window of its own."""
        return self._dead_after(self.tokens)

    def _dead_after(self, tokens: int | Tensor) -> Tensor:
        return tokens - torch.maximum(self.last_fired, self.restarted) >= self.recipe.dead_window

    def code(self, x: Tensor, target: Tensor | None = None) -> SAEOutput:
        """What the SAE makes of activations [B, I], its reconstruction [B, D] in their own terms.

        target [B, D]: a transcoder's, where what its coders leave over is wanted, too.
        """
        given = self.inputs.there(x, self.centring)
        output: SAEOutput = self.sae(given.x, self._wanted(target))
        reconstruction = self.inputs.back(output.reconstruction, self.target_centring, given.token)
        return output._replace(reconstruction=reconstruction)

    def _wanted(self, target: Tensor | None) -> Tensor | None:
        """What a transcoder is to reconstruct of a target [B, D]; None for an SAE."""
        if target is None or not self.sae.is_transcoder:
            return None
        return self.inputs.there(target, self.target_centring).x

    @contextmanager
    def evaluating(self) -> Iterator[None]:
        """Within, the SAE is what training has come to: thresholds for batches, averaged weights."""
        self.sae.eval()
        self.sae.set_active(active_at(self.step_index, self.recipe))  # at the end k, however late it was reached
        with averaged_weights(self.optimizers):
            yield
        self.sae.train()

    def trained_sae(self) -> tuple[SAE, int]:
        """A copy of what training has come to, in evaluation mode, and how many latents it lets be active."""
        with self.evaluating():
            return deepcopy(self.sae), active_at(self.step_index, self.recipe)

    def calibrate(self, x: Tensor) -> None:
        """Within `evaluating`: set the thresholds so that L0 is k on training activations x [T, I]."""
        batches = [self.inputs.there(part, self.centring).x for part in torch.split(x, self.evaluation_batch)]
        self.calibration = {"tokens": len(x), "layers": [asdict(layer) for layer in calibrate(self.sae, batches)]}

    def step(self, x: Tensor, target: Tensor | None = None) -> None:
        """Train on one batch [B, I], a transcoder to predict its target [B, D].

        Does not wait for a GPU, but for a step after which latents are resampled.
        """
        recipe = self.recipe
        batch = (x,) if target is None or not self.sae.is_transcoder else (x, target)
        self.sae.set_active(active_at(self.step_index, recipe))
        self._schedule()
        if resamples_at(self.step_index + 1, recipe):
            sources = self._work(*batch, keep_sources=True).sources
            self._update()
            self._taken(len(x))
            self._resample(sources)
            return
        if self._graph is None:
            self._work(*batch)
        else:
            self._graph(self._work, batch, (x.shape, *(coder.sparsifier.k for coder in self.sae.stack())))
        self._update()
        self._taken(len(x))

    def _taken(self, tokens: int) -> None:
        self.step_index += 1
        self.tokens_summed += tokens

    def _schedule(self) -> None:
        set_learning_rate(self.optimizers, learning_rate(self.step_index, self.recipe))
        self._numbers.prepare(self.step_index, self._rates)
        if self._fused is not None:
            self._fused.round_again()

    def _rates(self, step: int) -> Sequence[float]:
        """Those of a step (0-based) that its work reads on the device."""
        return () if self._fused is None else self._fused.rates_of(learning_rate(step, self.recipe), step + 1)

    def _work(self, x: Tensor, target: Tensor | None = None, *, keep_sources: bool = False) -> StepOutput:
        """What of a step can be one graph on a GPU: gradients, counters, and the update where it is fused."""
        given, wanted = self.inputs.there(x, self.centring).x, self._wanted(target)
        seen = backward(
            self.recipe,
            self.sae,
            given,
            self._dead_after(self._numbers.tokens),
            target=wanted,
            micro_batches=self.micro_batches,
            keep_sources=keep_sources,
        )
        self._count(given if wanted is None else wanted, seen)
        if self._fused is not None:
            self._fused.update(self._numbers)
        return seen

    def _update(self) -> None:
        recipe = self.recipe
        if self._fused is not None:
            return  # it is part of the work
        if recipe.decoder_norm == "unit":
            self.sae.project_decoder_gradients()
        elif recipe.decoder_norm == "unit_per_dimension":
            project_dimensions(self.sae)
        if recipe.gradient_clip:
            clip(self.sae.parameters(), recipe.gradient_clip)
        for optimizer in self.optimizers:
            optimizer.step()
            optimizer.zero_grad()
        if recipe.decoder_norm == "unit":
            self.sae.normalise_decoders()
        elif recipe.decoder_norm == "unit_per_dimension":
            normalise_dimensions(self.sae)

    @torch.no_grad()
    def _count(self, target: Tensor, seen: StepOutput) -> None:
        self._numbers.count()
        self.last_fired.copy_(torch.where(seen.firings > 0, self._numbers.tokens, self.last_fired))
        self.sums += torch.stack([seen.error * target.numel(), seen.squares, seen.firings.sum()])

    def _resample(self, sources: list[LossSamples]) -> None:
        # A generator of its own for every time, so that a resumed cell draws what it would have drawn.
        generator = torch.Generator().manual_seed(self.recipe.seed * 1_000_003 + self.step_index)
        dead = self.dead()
        resample(self.sae, sources, dead, self.optimizers, generator)
        self.restarted.masked_fill_(dead, self.tokens)

    def drain(self) -> dict[str, float]:
        """Training figures since the last call. One synchronisation with the device.

        Dead fractions are those of the last `dead_window` tokens and of `WINDOWS`, all from the same counter, and
        not there before as many tokens have been seen. `died_fraction`, `revived_fraction`: the latents that are
        silent for `dead_window` now and were not at the last call, and the other way round.
        """
        error, squares, firings = self.sums.tolist()
        tokens = max(1, self.tokens_summed)
        self.sums.zero_()
        self.tokens_summed = 0
        figures = {"fvu": error / squares if squares else 0.0, "l0": firings / tokens}
        silent = {"dead_fraction": self.silent(self.recipe.dead_window)}
        silent["died_fraction"] = silent["dead_fraction"] & ~self.was_silent
        silent["revived_fraction"] = self.was_silent & ~silent["dead_fraction"]
        self.was_silent.copy_(silent["dead_fraction"])
        windows = dict.fromkeys(silent, self.recipe.dead_window) | WINDOWS
        silent |= {name: self.silent(window) for name, window in WINDOWS.items()}
        return figures | {
            name: float(silent[name].float().mean()) for name, window in windows.items() if self.tokens >= window
        }

    def state(self) -> dict[str, Tensor]:
        """Weights, optimizer moments, counters and position, as a flat mapping of tensors."""
        return pack(
            {
                "sae": dict(self.sae.state_dict()),
                "optimizers": [optimizer.state_dict() for optimizer in self.optimizers],
                "last_fired": self.last_fired,
                "restarted": self.restarted,
                "was_silent": self.was_silent,
                "sums": self.sums,
                "position": [self.step_index, self.tokens_summed],
            }
        )

    def load_state(self, tensors: dict[str, Tensor]) -> None:
        """Go on from `state()`. Raises KeyError or RuntimeError when it belongs to another recipe."""
        state = unpack(tensors)
        self.sae.load_state_dict(state["sae"])
        for optimizer, saved in zip(self.optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(saved)
        self.last_fired.copy_(state["last_fired"])
        self.restarted.copy_(state["restarted"])
        self.was_silent.copy_(state["was_silent"])
        self.sums.copy_(state["sums"])
        self.step_index, self.tokens_summed = state["position"]
        if self._graph is not None:
            self._graph.forget()
