"""Who is timed: each makes, from a shape, a function that takes one training step on a batch.

A peer's step is what its own trainer does in one, called as its trainer calls it, with nothing left out or added;
packages are imported where they are used, since each is installed in one environment only.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import count, pairwise
from typing import Any

import torch
from torch import Tensor

from benchmarks.shape import AUX_WEIGHT, LR, Shape

Step = Callable[[Tensor], Any]
LONG = 10**9  # tokens: schedules are in their flat part
SILENT = 10**9  # tokens since a dead latent fired


def harness(shape: Shape) -> Step:
    """Ours: a cell's step, as a worker takes it."""
    from harness.study.recipe import Recipe
    from harness.training.cell import Cell

    recipe = {
        "latents": shape.latents,
        "k": shape.k,
        "batch": shape.batch,
        "tokens": LONG,
        "lr": LR,
        "warmup": 0.0,
    }
    if shape.aux:
        recipe |= {"aux_k": max(1, shape.width // 2), "aux_weight": AUX_WEIGHT}
    cell = Cell(Recipe(**{**recipe, **shape.more}), shape.width, torch.device("cpu"))
    silence = [counter[: shape.dead] for counter in (cell.last_fired, cell.restarted)]

    def step(x: Tensor) -> None:
        for counter in silence:
            counter.fill_(-SILENT)
        cell.step(x)

    if shape.dead:
        with torch.no_grad():
            cell.sae.stack()[0].bias[: shape.dead] = -1e4
    return step


def harness_reading(shape: Shape) -> Step:
    """Ours, on batches that it reads as a worker does, from the store that `more` names: a training script that
    keeps no curve, no checkpoint and no books, and evaluates nothing."""
    from harness.study.recipe import Recipe
    from harness.training.cohort import Prefetcher
    from harness.training.data import open_data

    data = open_data(shape.more["store"], "cpu")
    recipe = Recipe(latents=shape.latents, k=shape.k, batch=shape.batch, tokens=LONG)
    rows, steps = Prefetcher(lambda step: data.read(recipe, step)), count()
    step = harness(replace(shape, more={}))
    return lambda _: step(data.centred(rows(next(steps))).input)


def floor(shape: Shape) -> Step:
    """The encoder's float32 product alone, into a buffer that is kept."""
    weight = torch.randn(shape.latents, shape.width)
    out = torch.empty(shape.batch, shape.latents)
    return lambda x: torch.mm(x, weight.T, out=out)


def dense_floor(shape: Shape) -> Step:
    """Every product that sparsity leaves necessary, into kept buffers: three for each added dense layer, of which
    the first needs no gradient of its input, and the encoder's."""
    from harness.sae.sizes import layer_widths
    from harness.study.catalogue import parse_layers

    layers = parse_layers(shape.more["layers"])
    before = [shape.width, *layer_widths(shape.width, layers.encoder)]
    behind = [*layer_widths(shape.width, layers.decoder), shape.width]
    pairs = [*pairwise(before), *pairwise(behind)]
    products = [(shape.batch, before[-1], shape.latents)]
    for number, (a, b) in enumerate(pairs):
        products += [(shape.batch, a, b), (b, shape.batch, a), *([(shape.batch, b, a)] if number else [])]
    operands = [(torch.randn(m, k), torch.randn(n, k).T, torch.empty(m, n)) for m, k, n in products]

    def step(_: Tensor) -> None:
        for left, right, out in operands:
            torch.mm(left, right, out=out)

    return step


def sparsify(shape: Shape, *, precision: str = "highest") -> Step:
    """eai-sparsify: the loop of `Trainer.fit` for one module, its micro-batches and accumulation at 1."""
    from sparsify import SparseCoder, SparseCoderConfig
    from transformers import get_linear_schedule_with_warmup

    torch.set_float32_matmul_precision(precision)
    sae = SparseCoder(
        shape.width, SparseCoderConfig(num_latents=shape.latents, k=shape.k), "cpu", dtype=torch.float32
    )
    optimizer = torch.optim.Adam(sae.parameters(), lr=LR)
    schedule = get_linear_schedule_with_warmup(optimizer, 0, LONG)
    silent = torch.zeros(shape.latents, dtype=torch.long)
    did_fire = torch.zeros(shape.latents, dtype=torch.bool)

    def step(x: Tensor) -> None:
        silent[: shape.dead] = SILENT
        sae.set_decoder_norm_to_unit_norm()
        variance = (x - x.mean(0)).pow(2).sum()
        out = sae(x=x, y=x, dead_mask=silent > 10_000_000 if shape.aux else None, total_variance=variance)
        did_fire[out.latent_indices.flatten()] = True
        float(out.fvu.detach())  # its trainer reads both at every step
        loss = out.fvu
        if shape.aux:
            float(out.auxk_loss.detach())
            loss = loss + AUX_WEIGHT * out.auxk_loss
        loss.backward()
        sae.remove_gradient_parallel_to_decoder_directions()
        optimizer.step()
        optimizer.zero_grad()
        schedule.step()
        with torch.no_grad():
            silent.add_(len(x)).masked_fill_(did_fire, 0)
            did_fire.zero_()

    return step


def sparsify_high(shape: Shape) -> Step:
    """The same with the matmul precision that its trainer sets."""
    return sparsify(shape, precision="high")


def saelens(shape: Shape, *, sparse: bool = True) -> Step:
    """SAELens: `SAETrainer`'s step. Sparse activations fail on a CPU unless the rescaling by norms is off."""
    from sae_lens import TopKTrainingSAE, TopKTrainingSAEConfig
    from sae_lens.config import SAETrainerConfig
    from sae_lens.training.sae_trainer import SAETrainer

    config = TopKTrainingSAEConfig(
        d_in=shape.width,
        d_sae=shape.latents,
        k=shape.k,
        use_sparse_activations=sparse,
        rescale_acts_by_decoder_norm=not sparse,
        device="cpu",
        dtype="float32",
    )
    settings = SAETrainerConfig(
        total_training_samples=LONG, train_batch_size_samples=shape.batch, lr=LR, lr_end=LR / 10, device="cpu"
    )
    trainer = SAETrainer(settings, TopKTrainingSAE(config), data_provider=iter([]))

    def step(x: Tensor) -> None:
        trainer.n_forward_passes_since_fired[: shape.dead] = SILENT
        trainer._train_step(sae=trainer.sae, sae_in=trainer.activation_scaler(x))
        trainer.n_training_steps += 1

    return step


def saelens_dense(shape: Shape) -> Step:
    """The same as it comes: dense activations."""
    return saelens(shape, sparse=False)


def dictionary_learning(shape: Shape) -> Step:
    """dictionary_learning: `TopKTrainer.update`, behind its first thousand steps."""
    from dictionary_learning.trainers.top_k import TopKTrainer

    trainer = TopKTrainer(
        steps=10**6,
        activation_dim=shape.width,
        dict_size=shape.latents,
        k=shape.k,
        layer=0,
        lm_name="none",
        lr=LR,
        seed=0,
        device="cpu",
        auxk_alpha=AUX_WEIGHT if shape.aux else 0,
    )
    if shape.dead:
        with torch.no_grad():
            trainer.ae.encoder.bias[: shape.dead] = -1e4
    number = iter([0, *range(1001, 10**6)])  # its threshold is kept up from step 1,001 on

    def step(x: Tensor) -> None:
        trainer.num_tokens_since_fired[: shape.dead] = SILENT
        trainer.update(next(number), x)

    return step


CONTENDERS: dict[str, Callable[[Shape], Step]] = {
    make.__name__: make
    for make in (
        harness,
        harness_reading,
        floor,
        dense_floor,
        sparsify,
        sparsify_high,
        saelens,
        saelens_dense,
        dictionary_learning,
    )
}
