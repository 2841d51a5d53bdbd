"""What a pass of a language model costs, against the products that torch counts in one."""

import json

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode
from transformers import AutoConfig, AutoModelForCausalLM

from harness.sources.model_cost import HookPoint, NotKnown, model_cost, model_sizes

CONTEXT = 32
MODELS = {
    "gpt2": {"n_embd": 48, "n_layer": 3, "n_head": 4, "n_positions": 64},
    "gpt_neox": {"hidden_size": 48, "num_hidden_layers": 3, "num_attention_heads": 4, "intermediate_size": 120},
    "llama": {
        "hidden_size": 48,
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "intermediate_size": 120,
    },
    "gemma": {
        "hidden_size": 48,
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
        "num_key_value_heads": 1,
        "head_dim": 32,
        "intermediate_size": 120,
    },
    "qwen2": {
        "hidden_size": 48,
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "intermediate_size": 120,
    },
    "opt": {"hidden_size": 48, "num_hidden_layers": 3, "num_attention_heads": 4, "ffn_dim": 120},
    "mixtral": {
        "hidden_size": 48,
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "intermediate_size": 120,
        "num_local_experts": 4,
        "num_experts_per_tok": 2,
    },
}
SAME = {"vocab_size": 100, "attn_implementation": "eager", "pad_token_id": 0}


@pytest.mark.parametrize("name", MODELS)
def test_flops_and_parameters_are_those_of_the_model(name, tmp_path):
    config = AutoConfig.for_model(name, **MODELS[name], **SAME)
    config.save_pretrained(tmp_path)
    sizes = model_sizes(json.loads((tmp_path / "config.json").read_text()))
    model = AutoModelForCausalLM.from_config(config).eval()
    matrices = {p.data_ptr(): p.numel() for p in model.parameters() if p.ndim > 1}
    free = sum(matrices.values())
    tied = model.get_input_embeddings().weight.data_ptr() == model.get_output_embeddings().weight.data_ptr()
    positions = sum(p.numel() for n, p in model.named_parameters() if "wpe" in n or "embed_positions" in n)
    logits = SAME["vocab_size"] * 48
    assert sizes.parameters == free - positions - (0 if tied else logits)
    if name == "mixtral":  # how its experts are computed decides what a counter sees of them
        return
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model(torch.zeros(2, CONTEXT, dtype=torch.int64), use_cache=False)
    counted = counter.get_total_flops() / (2 * CONTEXT) - 2 * logits
    half = 2 * sizes.heads_width * (CONTEXT - 1)  # eager attention computes what the mask then hides, too
    rotary = 0.02 * counted  # a few models compute their frequencies by a product
    assert 3 * (sizes.block_flops(CONTEXT) + half) == pytest.approx(counted, abs=rotary)


def test_gpt2s_nine_blocks_are_what_the_paper_says():
    """24 d^2 FLOPs per token and block, and the products of attention."""
    config = {
        "model_type": "gpt2",
        "n_embd": 768,
        "n_layer": 12,
        "n_head": 12,
        "vocab_size": 50257,
        "n_inner": None,
    }
    found = model_cost("gpt2", config, [HookPoint("transformer.h.8")], 64, "auto")
    assert (found.blocks, found.of_blocks) == (9, 12)
    assert found.flops_per_token == 9 * (24 * 768**2 + 2 * 768 * 65)
    assert found.bytes == pytest.approx(4 * 124e6, rel=0.01)


@pytest.mark.parametrize(
    ("place", "blocks"),
    [
        (HookPoint("transformer.h.8"), 9),
        (HookPoint("transformer.h.8", "input"), 8),
        (HookPoint("model.layers.5.mlp"), 6),
        (HookPoint("model.layers.5.mlp", "input"), 6),
        (HookPoint("transformer.ln_f"), 12),
        (HookPoint("layers.40"), 12),
        (HookPoint("3"), 4),
    ],
)
def test_blocks_behind_the_hook_do_not_count(place, blocks):
    assert place.blocks(12) == blocks


def test_what_a_configuration_does_not_say_is_said():
    with pytest.raises(NotKnown, match="none of num_hidden_layers, n_layer"):
        model_sizes({"hidden_size": 8})


@pytest.mark.parametrize(("dtype", "size"), [("auto", 2), ("float32", 4)])
def test_weights_take_what_they_are_loaded_in(dtype, size):
    config = {"n_embd": 8, "n_layer": 1, "n_head": 1, "model_type": "gpt2", "torch_dtype": "bfloat16"}
    found = model_cost("m", config, [HookPoint("h.0")], 64, dtype)
    assert found.bytes == size * 12 * 8**2
