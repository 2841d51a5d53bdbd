"""Measuring an SAE that the study has not trained, such as a published one, as its own are measured."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch

from harness.errors import UserError
from harness.evaluation.measurements import Figures, Measurement
from harness.training.centring import Centring
from harness.training.data import Data
from harness.training.interchange.plain import from_plain, plain, why_not
from harness.training.trained_sae import TrainedSAE, load_sae


def open_reference(folder: Path, data: Data, dead_window: int) -> TrainedSAE:
    """The SAE in a folder, of any format, to be measured on the held-out activations of `data`.

    These are centred and scaled as the store says, which its weights have to take into account. Raises UserError
    where that is impossible, or where it is for other activations.
    """
    sae = load_sae(folder)
    given, target = _on_cpu(data.centring), _on_cpu(data.target_centring)
    if sae.config.transcoder != (data.target_width is not None):
        expected = "an SAE" if data.target_width is None else "a transcoder"
        raise UserError(f"{folder}: expected {expected}, as the source of the study is for them")
    if not (_equal(sae.config.input, given) and _equal(sae.config.target, target)):
        if (why := why_not(sae.config)) is not None:
            raise UserError(f"{folder}: expected one that was trained on these very activations, since {why}")
        config, weights = from_plain(
            plain(sae.config, sae.sae.state_dict()), sae.config.package, str(folder), (given, target)
        )
        sae = TrainedSAE.of_weights(config, weights)
    recipe = replace(sae.config.recipe, dead_window=dead_window)
    return TrainedSAE(sae.sae, replace(sae.config, recipe=recipe)).to(data.device)


def _on_cpu(centring: Centring) -> Centring:
    return Centring(centring.mean.cpu(), centring.scale.cpu())


def _equal(one: Centring, other: Centring) -> bool:
    return torch.equal(one.mean, other.mean) and torch.equal(one.scale, other.scale)


def measure_reference(sae: TrainedSAE, data: Data, measurements: Sequence[Measurement]) -> dict[str, Figures]:
    """The figures of each measurement, by its name."""
    return {one.name: one.load()(sae, data.held_out) for one in measurements}
