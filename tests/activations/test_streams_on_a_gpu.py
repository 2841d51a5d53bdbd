"""Windows that a GPU makes beside cells: what can be seen of it without one, and the rest where there is one."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor, wait
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import GPT2Config, GPT2LMHeadModel

from harness.activations import windows
from harness.activations.capture_windows import capture_windows
from harness.activations.pretrained_model import fuse_gelu
from harness.activations.store import ActivationStore
from harness.activations.windows import WindowMaker
from harness.study.recipe import Recipe
from harness.training.data import Data
from harness.training.precision import float32_products
from harness.workers.worker import open_stream

from .pretrained_models import save_model, save_text, source_file

GPU = torch.device("cuda")
needs_a_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")


def streamed(root: Path, **more: Any) -> Path:
    """A store of which one window is on disk."""
    model, text = save_model("gpt2", root / "model"), save_text(root / "text.jsonl")
    source = source_file(root, model, text, "transformer.h.1", feed="stream", window=100, **more)
    capture_windows(source, root / "out")
    return root / "out"


def test_the_fused_gelu_is_that_of_gpt2_to_rounding() -> None:
    config = GPT2Config(vocab_size=50, n_embd=16, n_layer=2, n_head=2, n_positions=8)
    torch.manual_seed(0)
    model = GPT2LMHeadModel(config).double().eval()
    ids = torch.arange(40).reshape(5, 8)
    with torch.inference_mode():
        before = model(ids).logits
        fuse_gelu(model)
        after = model(ids).logits
    assert isinstance(model.transformer.h[1].mlp.act, torch.nn.GELU)
    assert torch.allclose(after, before, rtol=1e-12, atol=1e-12)


def test_no_pass_is_in_tf32_while_a_cell_steps_in_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The setting holds for all threads, and a stream's activations are those that a store has."""
    maker = WindowMaker.open(streamed(tmp_path), torch.device("cpu"))
    maker.window("train", 1)
    seen: list[str] = []
    run = windows.hidden_states

    def watched(*given: Any) -> Any:
        seen.append(torch.backends.cuda.matmul.fp32_precision)
        return run(*given)

    monkeypatch.setattr(windows, "hidden_states", watched)
    with ThreadPoolExecutor(1) as thread:
        with float32_products("tf32", GPU):
            assert torch.backends.cuda.matmul.fp32_precision == "tf32"
            making = thread.submit(maker.window, "train", 2)
            wait([making], timeout=0.2)
        making.result()
    assert seen
    assert "tf32" not in seen


@needs_a_gpu
@pytest.mark.parametrize("layout", [{}, {"pack": "false", "padding": "left", "contexts_per_pass": 5}])
def test_a_streamed_window_stays_on_the_gpu_and_has_the_bits_of_a_stored_one(
    tmp_path: Path, layout: dict[str, Any]
) -> None:
    out = streamed(tmp_path, **layout)
    (rows,) = WindowMaker.open(out, GPU).window("train", 0)
    assert rows.is_cuda
    assert torch.equal(rows.cpu(), torch.from_numpy(ActivationStore.open(out).read_window(0)[0]))
    recipe = Recipe(latents=8, k=1, batch=40, tokens=1200, dead_window=40)
    data, again = (Data(out, GPU, open_stream) for _ in range(2))
    for step in range(recipe.steps):
        one, other = data.read(recipe, step).input, again.read(recipe, step).input
        assert one.is_cuda
        assert torch.equal(one, other)
