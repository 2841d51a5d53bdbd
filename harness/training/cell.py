"""One cell in training: the model, its optimizers, its counters, and one step of all of them.

Shape letters: B tokens, D activation width, N latents.
"""

from __future__ import annotations

import torch
from torch import Tensor

from harness.sae.model import build_sae
from harness.sae.penalties import PENALTIES
from harness.study.recipe import Layers, Recipe
from harness.training.metrics import fired
from harness.training.optimizers import build_optimizers, learning_rate, set_learning_rate


class Cell:
    """A recipe being trained on activations of `width` dimensions.

    Everything that the remaining steps depend on is in `state()`: a cell that is loaded from it goes on with
    the same bits as one that was never interrupted.
    """

    def __init__(self, recipe: Recipe, width: int, device: torch.device) -> None:
        layers = Layers.parse(recipe.layers)
        generator = torch.Generator().manual_seed(recipe.seed)
        sae = build_sae(
            width,
            recipe.latents,
            recipe.k,
            encoder=layers.encoder,
            decoder=layers.decoder,
            depth=layers.depth,
            generator=generator,
        )
        self.recipe = recipe
        self.sae = sae.to(device)
        self.optimizers = build_optimizers(recipe.optimizer, self.sae, recipe.lr)
        self.step_index = 0
        self.last_fired = torch.zeros(recipe.latents, dtype=torch.int64, device=device)  # [N]: token count then
        self.sums = torch.zeros(3, dtype=torch.float64, device=device)  # squared error, squares, firings
        self.tokens_summed = 0

    @property
    def tokens(self) -> int:
        """Tokens trained on so far."""
        return self.step_index * self.recipe.batch

    def step(self, x: Tensor) -> None:
        """Train on one batch [B, D]."""
        recipe = self.recipe
        coded = self.sae(x)
        error = (x - coded.reconstruction).square().sum()
        loss = error / x.numel()
        if recipe.penalty:
            loss = loss + recipe.penalty * PENALTIES[recipe.penalty_on](self.sae, coded)
        loss.backward()
        self.sae.project_decoder_gradients()
        torch.nn.utils.clip_grad_norm_(self.sae.parameters(), recipe.gradient_clip, foreach=True)
        lr = learning_rate(self.step_index, recipe.steps, recipe.lr, recipe.warmup, recipe.decay)
        set_learning_rate(self.optimizers, lr)
        for optimizer in self.optimizers:
            optimizer.step()
            optimizer.zero_grad()
        self.sae.normalise_decoders()
        self.step_index += 1
        self._count(x, error.detach(), fired(coded))

    @torch.no_grad()
    def _count(self, x: Tensor, error: Tensor, firings: Tensor) -> None:
        self.last_fired.masked_fill_(firings > 0, self.tokens)
        self.sums += torch.stack([error, x.square().sum(), firings.sum()])
        self.tokens_summed += len(x)

    def drain(self) -> dict[str, float]:
        """Training figures since the last call. One synchronisation with the device."""
        error, squares, firings = self.sums.tolist()
        tokens = max(1, self.tokens_summed)
        silent = self.tokens - self.last_fired >= self.recipe.dead_window
        self.sums.zero_()
        self.tokens_summed = 0
        return {
            "fvu": error / squares if squares else 0.0,
            "l0": firings / tokens,
            "dead_fraction": float(silent.float().mean()),
        }

    def state(self) -> dict[str, Tensor]:
        """Weights, optimizer moments, counters and position, as a flat mapping of tensors."""
        tensors = {f"sae.{name}": p for name, p in self.sae.state_dict().items()}
        for number, optimizer in enumerate(self.optimizers):
            for index, moments in optimizer.state_dict()["state"].items():
                for name, value in moments.items():
                    tensors[f"optimizer.{number}.{index}.{name}"] = value
        tensors["last_fired"] = self.last_fired
        tensors["sums"] = self.sums
        tensors["position"] = torch.tensor([self.step_index, self.tokens_summed])
        return tensors

    def load_state(self, tensors: dict[str, Tensor]) -> None:
        """Go on from `state()`. Raises KeyError or RuntimeError when it belongs to another recipe."""
        self.sae.load_state_dict({n.removeprefix("sae."): t for n, t in tensors.items() if n.startswith("sae.")})
        for number, optimizer in enumerate(self.optimizers):
            prefix = f"optimizer.{number}."
            moments: dict[int, dict[str, Tensor]] = {}
            for name, value in tensors.items():
                if name.startswith(prefix):
                    index, key = name.removeprefix(prefix).split(".", 1)
                    moments.setdefault(int(index), {})[key] = value
            groups = optimizer.state_dict()["param_groups"]
            optimizer.load_state_dict({"state": moments, "param_groups": groups})
        self.last_fired.copy_(tensors["last_fired"])
        self.sums.copy_(tensors["sums"])
        self.step_index, self.tokens_summed = tensors["position"].tolist()
