"""A trained SAE by itself, in the language model's own units. docs/trained_sae.md has its files.

Shape letters: I width of the input and D of the target (one and the same for an SAE), N latents of all coders, B
tokens.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor, nn

from harness.errors import UserError
from harness.sae.model import SAE, SAEOutput
from harness.sae.support import Support
from harness.training.cell import Cell, initial_sae
from harness.training.centring import Centring
from harness.training.checkpoint import read_checkpoint
from harness.training.inputs import ModelInput, TokenStatistics, inputs_of
from harness.training.interchange.formats import read_sae
from harness.training.sae_files import CONFIG, SAEConfig, config_from, write_folder

BATCH = 2048  # tokens at a time; bounds the memory of the [B, N] pre-activations


class TrainedSAE(nn.Module):
    """An SAE that training has come to: averaged weights, thresholds as they were last calibrated.

    Activations go in as the language model has them, of any floating-point type, and so come reconstructions back,
    in float32; both are [..., D], on the device of the weights. Latents are [..., N], coder after coder where
    sparse layers are stacked. Weights take no gradients; activations and active latents do. A transcoder takes
    inputs [..., I], and what comes back predicts its target.
    `config` says what was trained, on what, and by which code.
    """

    input_mean: Tensor
    input_scale: Tensor
    input_std: Tensor | None
    target_mean: Tensor
    target_scale: Tensor
    target_std: Tensor | None

    def __init__(self, sae: SAE, config: SAEConfig) -> None:
        """Use `TrainedSAE.of` or `load_sae`."""
        super().__init__()
        self.sae = sae.requires_grad_(False)
        self.config = config
        self.inputs = inputs_of(config.recipe)
        for name, centring in (("input", config.input), ("target", config.target)):
            for field, value in centring._asdict().items():
                self.register_buffer(f"{name}_{field}", value, persistent=False)
        self.eval()

    @classmethod
    def of(cls, cell: Cell, config: SAEConfig) -> TrainedSAE:
        """A copy of what a cell has come to. `config` says what the cell itself does not know."""
        sae, k = cell.trained_sae()
        return cls(sae, replace(config, tokens=cell.tokens, k=k, calibration=cell.calibration))

    @classmethod
    def of_weights(cls, config: SAEConfig, weights: dict[str, Tensor]) -> TrainedSAE:
        """On a CPU, with these very tensors. Raises RuntimeError where they are not those of the recipe."""
        with torch.device("meta"):  # no random weights are drawn only to be replaced
            sae = initial_sae(config.recipe, config.width, config.target_width)
        sae.load_state_dict(weights, assign=True)
        sae.set_active(config.k)
        return cls(sae, config)

    def train(self, mode: bool = True) -> TrainedSAE:
        """Stays in evaluation mode: in training, thresholds would not hold."""
        return super().train(False)

    @property
    def input(self) -> Centring:
        """What centres and scales the activations that are encoded."""
        return Centring(self.input_mean, self.input_scale, self.input_std)

    @property
    def target(self) -> Centring:
        """Likewise for those that are reconstructed: for an SAE the same."""
        return Centring(self.target_mean, self.target_scale, self.target_std)

    def forward(self, x: Tensor) -> Tensor:
        """Activations [..., I] -> their reconstruction [..., D], float32."""

        def reconstruct(rows: Tensor) -> Tensor:
            return self.target.restore(self.code(self.input.centre(rows)).reconstruction)

        return self._by_batches(reconstruct, x)

    def encode(self, x: Tensor) -> Tensor:
        """Activations [..., I] -> latent activations [..., N], float32, not negative; 0: it did not fire."""

        def encode(rows: Tensor) -> Tensor:
            output = self.code(self.input.centre(rows))
            return torch.cat([part.code.dense() for part in output.coders], dim=1)

        return self._by_batches(encode, x)

    def decode(self, latents: Tensor, token: TokenStatistics | None = None) -> Tensor:
        """Latent activations [..., N] -> the reconstruction [..., D], float32.

        token: each token's `token_statistics(x)`. Recipes with `inputs: unit_norm` or `layer_norm` need them, as
        latents do not hold them; `sae.decode(sae.encode(x), sae.token_statistics(x))` is `sae(x)` for every SAE,
        to rounding.
        Raises ValueError without them there, and for other shapes.
        """
        self._check(latents, self.sae.latents)
        for name, value in token._asdict().items() if token else ():
            if value.shape != (*latents.shape[:-1], 1):
                raise ValueError(f"expected {name}s {[*latents.shape[:-1], 1]}, got {list(value.shape)}")
        rows = self._decode(latents.reshape(-1, self.sae.latents).float())
        flat = token and TokenStatistics(*(value.reshape(-1, 1) for value in token))
        centred = self.inputs.back(rows, self.target, flat)
        return self.target.restore(centred).reshape(*latents.shape[:-1], centred.shape[-1])

    def token_statistics(self, x: Tensor) -> TokenStatistics:
        """By what each token of activations [..., I] is brought to one norm to be encoded: both [..., 1], float32.

        In units of the scale. A mean of 0 and a norm of 1 where the recipe's inputs are not normalised per token.
        """

        def statistics(rows: Tensor) -> Tensor:
            token = self._model_input(self.input.centre(rows)).token
            if token is None:
                return torch.tensor([[0.0, 1.0]], device=rows.device).expand(len(rows), 2)
            return torch.cat(token, dim=1)

        return TokenStatistics(*torch.split(self._by_batches(statistics, x), 1, dim=-1))

    def code(self, x: Tensor, target: Tensor | None = None) -> SAEOutput:
        """What it makes of activations [B, I] that are centred and scaled already, in the terms of its target.

        target [B, D]: a transcoder's, where what its coders leave over is wanted, too. Held-out figures are
        measured on these.
        """
        given = self._model_input(x)
        wanted = None
        if target is not None and self.sae.is_transcoder:
            wanted = self.inputs.there(target, self.target).x
        output: SAEOutput = self.sae(given.x, wanted)
        return output._replace(reconstruction=self.inputs.back(output.reconstruction, self.target, given.token))

    def save(self, folder: Path | str) -> None:
        """Write `sae.safetensors` and `config.json`, the latter last: with it the SAE is whole."""
        write_folder(Path(folder), self.config, self.sae.state_dict())

    def _model_input(self, x: Tensor) -> ModelInput:
        return self.inputs.there(x, self.input)

    def _decode(self, latents: Tensor) -> Tensor:
        """Latents [B, N] -> what the SAE makes of them, in the terms of what it sees: [B, D]."""
        coders = self.sae.stack()
        parts = torch.split(latents, [coder.latents for coder in coders], dim=1)
        rows = []
        for coder, dense in zip(coders, parts, strict=True):
            places = dense.detach().flatten().nonzero().squeeze(1)
            values = dense.flatten()[places]
            rows.append(coder.decode(values, Support.of_places(places, dense.shape)))
        return torch.stack(rows).sum(0)

    def _by_batches(self, make: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
        """What `make` makes of rows [B, I], for activations of any shape [..., I]."""
        self._check(x, len(self.input_mean))
        made = torch.cat([make(rows) for rows in torch.split(x.reshape(-1, x.shape[-1]), BATCH)])
        return made.reshape(*x.shape[:-1], made.shape[-1])

    def _check(self, x: Tensor, width: int) -> None:
        if not x.dim() or x.shape[-1] != width:
            raise ValueError(f"expected a tensor [..., {width}], got {list(x.shape)}")


def load_sae(path: Path | str, device: torch.device | str = "cpu") -> TrainedSAE:
    """The SAE in a folder (`runs/cells/<id>/sae`), or that of a checkpoint from the middle of training.

    A folder may be one that SAELens or sparsify has written, too.
    A checkpoint's thresholds are those of the last point of its curve; one of a schedule-free optimizer needs this
    optimizer's package, to average the weights. Raises UserError for a file that is missing or damaged.
    """
    path = Path(path)
    if path.is_file():
        return _of_checkpoint(path).to(device)
    try:
        return TrainedSAE.of_weights(*read_sae(path)).to(device)
    except RuntimeError:
        raise UserError(f"{path}: expected the weights of the recipe in config.json, got others") from None


def _of_checkpoint(path: Path) -> TrainedSAE:
    tensors = read_checkpoint(path)
    if tensors is None or CONFIG not in tensors:
        raise UserError(f"{path}: expected a whole checkpoint, or a folder with config.json and sae.safetensors")
    config = config_from(bytes(tensors[CONFIG].tolist()), path)
    try:
        cell = Cell(
            config.recipe,
            config.width,
            torch.device("cpu"),
            config.input,
            target_width=config.target_width,
            target_centring=config.target,
        )
        cell.load_state(tensors)
    except ModuleNotFoundError as missing:
        needed = f"{config.recipe.optimizer} needs {missing.name} to average the weights of a checkpoint"
        raise UserError(f"{path}: {needed}: pip install {missing.name}") from None
    except (KeyError, RuntimeError):
        raise UserError(f"{path}: expected the weights of its recipe, got others") from None
    return TrainedSAE.of(cell, config)
