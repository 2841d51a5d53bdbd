"""Inputs and targets of a transcoder: read in one pass, kept as pairs, each with its own width, mean and scale."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from harness.activations.capture import capture_activations
from harness.activations.documents import read_documents
from harness.activations.hook import Hook, hidden_states
from harness.activations.pretrained_model import load_model
from harness.activations.store import ActivationStore
from harness.activations.store_writer import StoreWriter
from harness.activations.tokens import packed_contexts
from harness.errors import UserError
from harness.sources.prepare import prepare_missing
from harness.study.recipe import Recipe
from harness.training.data import Data

from .conftest import Folders, MakeSource

MLP = ("hook: transformer.h.0", "hook: transformer.h.1.mlp\n  side: input\n  target: {hook: transformer.h.1.mlp}")
HIDDEN = (MLP[0], MLP[1].replace("mlp}", "mlp.c_fc, width: 64}"))  # of another width than the input


@pytest.mark.parametrize(
    ("change", "target"), [(MLP, "transformer.h.1.mlp"), (HIDDEN, "transformer.h.1.mlp.c_fc")]
)
def test_the_pairs_are_what_the_model_computes(
    make_source: MakeSource, folders: Folders, tmp_path: Path, change: tuple[str, str], target: str
) -> None:
    """All token by token what hooks of our own see on the same text, whatever the order of the rows."""
    source = make_source(change, ("held_out_tokens: 1_500", "held_out_tokens: 1_500\n  dtype: float32"))
    manifest = capture_activations(source, folders.corpus, folders.language_model, tmp_path / "out")
    store = ActivationStore.open(tmp_path / "out")
    assert (manifest["hook"], manifest["targets"]["hook"]) == ("transformer.h.1.mlp (input)", target)

    model, tokenizer = load_model(folders.language_model)
    ids = packed_contexts(read_documents(folders.corpus, "held_out"), tokenizer, 32, 1_500, 0)
    seen: dict[str, torch.Tensor] = {}
    mlp = model.get_submodule("transformer.h.1.mlp")
    mlp.register_forward_hook(lambda _m, args, _o: seen.update(x=args[0]))
    model.get_submodule(target).register_forward_hook(lambda _m, _a, output: seen.update(y=output))
    with torch.inference_mode():
        model(input_ids=torch.from_numpy(ids))
    kept = ids != tokenizer.eos_token_id
    x, y = (seen[name].numpy()[kept] for name in "xy")
    expected = np.concatenate([x, y], axis=1)
    assert store.targets is not None
    pairs = np.concatenate([s.read("held_out", 0, len(x)) for s in (store, store.targets)], axis=1)
    assert np.array_equal(pairs[np.lexsort(pairs.T)], expected[np.lexsort(expected.T)])
    assert (store.width, store.targets.width) == (x.shape[1], y.shape[1])


class Doubling(nn.Module):
    """Changes its input in place, as fused activations do, and is called twice."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.mul_(2)


class Model(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = Doubling(), Doubling()

    def forward(self, input_ids: torch.Tensor, use_cache: bool) -> torch.Tensor:
        return self.first(x=self.second(self.first(input_ids.float())))


def test_what_is_read_is_that_of_the_first_call_whatever_is_changed_in_place() -> None:
    model = Model()
    hooks = [Hook(model.first, "input"), Hook(model.first), Hook(model.second)]
    assert [float(states) for states in hidden_states(model, hooks, torch.ones(1))] == [1, 2, 4]
    assert hidden_states(model, [Hook(nn.Linear(1, 1)), Hook(model.first)], torch.ones(1)) == [None, 2]
    assert not [hook for module in model.modules() for hook in module._forward_pre_hooks]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            ("h.1.mlp}", "h.7.mlp}"),
            r"yaml:16: activations\.target\.hook: no module 'transformer\.h\.7\.mlp' in the ",
        ),
        (
            ("h.1.mlp}", "h.1.mlp.c_fc}"),
            r"target\.width: expected 64, the width of the output of transformer\.h\.1\.mlp\.c_fc, got 16$",
        ),
        (
            ("h.1.mlp}", "h.1.mlp.c_proj, side: input}"),
            r"target\.width: expected 64, the width of the input of transformer\.h\.1\.mlp\.c_proj, got 16$",
        ),
        (
            ("h.1.mlp}", "h.1.mlp, side: input}"),
            r"yaml:16: activations\.target: expected another place than .*input",
        ),
    ],
)
def test_a_wrong_target_is_one_line(
    make_source: MakeSource, folders: Folders, tmp_path: Path, change: tuple[str, str], message: str
) -> None:
    def capture() -> None:
        capture_activations(make_source(MLP, change), folders.corpus, folders.language_model, tmp_path / "out")

    with pytest.raises(UserError, match=message):
        capture()
    assert not (tmp_path / "out").exists()


ROWS = np.random.default_rng(0).normal(5, 2, (40, 3)).astype(np.float32)
TARGETS = np.random.default_rng(1).normal(-3, 7, (40, 5)).astype(np.float32)


def written(folder: Path, targets: np.ndarray[Any, Any] | None = TARGETS) -> ActivationStore:
    """A store of pairs in two shards, the first of them held out, too."""
    folder.mkdir()
    width = None if targets is None else targets.shape[1]
    writer = StoreWriter(folder, {"train": 40, "held_out": 9}, 3, "float32", 25, target_width=width)
    for one, rows in ((writer, ROWS), (writer.targets, targets)):
        if one is not None and rows is not None:
            one.put("train", np.arange(40), rows)
            one.put("held_out", np.arange(9), rows[:9])
    writer.finish(hook="in", target_hook="out", model="m", model_fingerprint="f")
    return ActivationStore.open(folder)


def test_a_store_of_pairs_has_two_means_and_scales_and_one_order(tmp_path: Path) -> None:
    written(tmp_path / "store")
    data = Data(tmp_path / "store", torch.device("cpu"))
    recipe = Recipe(latents=8, k=1, batch=10, tokens=10)
    for step in range(4):
        raw = data.read(recipe, step)
        places = [int(np.flatnonzero((row == ROWS).all(1))[0]) for row in raw.input.numpy()]
        assert len(set(places)) == 10
        assert np.array_equal(raw.input, ROWS[places])
        assert np.array_equal(raw.target, TARGETS[places])
        for rows, whole, kept in zip(data.centred(raw), (ROWS, TARGETS), raw, strict=True):
            scale = np.sqrt(np.square(whole - whole.mean(0)).mean())
            assert np.allclose(rows, (kept.numpy() - whole.mean(0)) / scale, atol=1e-5)
    assert (data.width, data.target_width) == (3, 5)
    assert torch.allclose(
        data.target_centring.scaled_mean, torch.from_numpy(TARGETS.mean(0) / data.held_out.scale), atol=1e-5
    )
    assert torch.equal(data.held_out.x, data.training(9))
    assert torch.allclose(
        data.held_out.target[0] * data.held_out.scale, torch.tensor(TARGETS[0] - TARGETS.mean(0))
    )


def test_targets_are_part_of_the_fingerprint_and_are_verified(tmp_path: Path) -> None:
    stores = [written(tmp_path / "a"), written(tmp_path / "b"), written(tmp_path / "c", TARGETS + 1)]
    alone = written(tmp_path / "d", None)
    assert stores[0].fingerprint == stores[1].fingerprint
    assert len({store.fingerprint for store in (*stores, alone)}) == 3
    shard = tmp_path / "a" / "targets-train-00001.npy"
    shard.write_bytes(shard.read_bytes()[:-4] + b"flip")
    with pytest.raises(UserError, match=r"targets-train-00001\.npy: its content is not what was written"):
        ActivationStore.open(tmp_path / "a").verify()
    shard.unlink()
    with pytest.raises(UserError, match=r"targets-train-00001\.npy: expected a complete shard of activations"):
        ActivationStore.open(tmp_path / "a")


def test_a_row_without_its_target_is_not_published(tmp_path: Path) -> None:
    writer = StoreWriter(tmp_path, {"train": 2, "held_out": 1}, 3, "float32", target_width=5)
    writer.put("train", np.arange(2), ROWS[:2])
    writer.put("held_out", np.arange(1), ROWS[:1])
    with pytest.raises(ValueError, match="train: expected 2 rows, 0 were put"):
        writer.finish(hook="in", target_hook="out")


def test_a_source_with_a_target_is_prepared_and_says_where_both_are_read(
    make_source: MakeSource, folders: Folders, tmp_path: Path
) -> None:
    source, said = make_source(MLP), []
    for folder in (folders.corpus, folders.language_model):
        shutil.copytree(folder, source.folder(tmp_path) / folder.name)
    prepare_missing(source, tmp_path, tmp_path / "results", said.append)
    source.check(ActivationStore.open(source.store(tmp_path)))
    (line,) = said
    assert "at transformer.h.1.mlp (input), targets at transformer.h.1.mlp: 6,000 + 1,500 tokens" in line


def test_a_store_without_the_targets_that_the_source_asks_for_is_refused(
    make_source: MakeSource, folders: Folders, tmp_path: Path
) -> None:
    wanted, plain = make_source(MLP), make_source(("transformer.h.0", "transformer.h.1.mlp\n  side: input"))
    for source, out in ((wanted, "pairs"), (plain, "alone")):
        capture_activations(source, folders.corpus, folders.language_model, tmp_path / out)
    pairs, alone = (ActivationStore.open(tmp_path / out) for out in ("pairs", "alone"))
    wanted.check(pairs)
    with pytest.raises(
        UserError, match=r"targets\.hook: expected 'transformer\.h\.1\.mlp', as .*, got None; make"
    ):
        wanted.check(alone)
    with pytest.raises(
        UserError, match=r"targets\.hook: expected None, as .*, got 'transformer\.h\.1\.mlp'; make"
    ):
        plain.check(pairs)
    with pytest.raises(
        UserError, match=r"hook: expected 'transformer\.h\.0', as .* got 'transformer\.h\.1\.mlp \("
    ):
        make_source().check(alone)
