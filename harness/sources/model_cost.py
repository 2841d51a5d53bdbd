"""What a pass of a language model costs, from its `config.json` alone: no torch, no weights, no network.

Counted are products of matrices, 2 floating-point operations for each multiply-add, of the blocks up to the one
that a hook is in: modules behind it do not run (harness/activations/hook.py). Attention counts each position's
products with those before it. Norms, activations and rotary embeddings are left out.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

# Architectures whose MLP is two matrices; that of all others (Llama, Gemma, Qwen, Mistral ...) has a gate, too.
TWO_MATRICES = {
    "bloom",
    "codegen",
    "falcon",
    "gpt2",
    "gpt_bigcode",
    "gpt_neo",
    "gpt_neox",
    "gpt_neox_japanese",
    "gptj",
    "mpt",
    "nemotron",
    "opt",
    "persimmon",
    "phi",
    "starcoder2",
    "xglm",
}
# What the parts of a model are called in the configurations of different architectures.
NAMES = {
    "width": ("hidden_size", "n_embd", "d_model"),
    "blocks": ("num_hidden_layers", "n_layer", "n_layers", "num_layers"),
    "heads": ("num_attention_heads", "n_head", "n_heads", "num_heads"),
    "key_heads": ("num_key_value_heads", "num_kv_heads"),
    "head_width": ("head_dim",),
    "hidden": ("intermediate_size", "n_inner", "ffn_dim", "ffn_hidden_size"),
    "vocabulary": ("vocab_size",),
    "experts": ("num_local_experts", "num_experts", "n_routed_experts"),
    "chosen_experts": ("num_experts_per_tok",),
    "expert_hidden": ("moe_intermediate_size",),
    "shared_hidden": ("shared_expert_intermediate_size",),
}
BYTES = {"float32": 4, "float16": 2, "bfloat16": 2}


class NotKnown(Exception):
    """A configuration does not say what is needed; the message says what."""


class HookPoint(NamedTuple):
    """Where activations are read: a module's path and side."""

    hook: str
    side: Literal["input", "output"] = "output"

    def blocks(self, there: int) -> int:
        """How many of a model's blocks run before it is reached."""
        found = re.search(r"(?:^|\.)(\d+)(\..*)?$", self.hook)
        if found is None:
            return there
        number = int(found[1])
        reached = number if self.side == "input" and not found[2] else number + 1
        return min(reached, there)


@dataclass(frozen=True)
class ModelCost:
    """Of passes that end at a hook."""

    name: str
    blocks: int  # that run
    of_blocks: int  # that the model has
    flops_per_token: float  # of a forward pass up to the hook
    whole_flops_per_token: float  # of one through all blocks to the logits
    parameters: int  # of the whole model
    vocabulary: int
    context: int  # tokens
    dtype: str  # of its weights
    config: Mapping[str, Any]  # its config.json
    training_flops: float = 0.0  # of all of its training, where it is trained here

    @property
    def bytes_per_number(self) -> int:
        return BYTES[self.dtype]

    @property
    def bytes(self) -> int:
        """Memory of its weights."""
        return self.parameters * self.bytes_per_number


@dataclass(frozen=True)
class ModelSizes:
    """Of a decoder-only transformer, in numbers."""

    blocks: int
    width: int
    vocabulary: int
    attention: int  # weights of one block's attention
    mlp: int  # weights of one block's MLP that a token meets
    idle: int  # weights of one block's experts that it does not meet
    heads_width: int  # of all heads' queries together

    def block_flops(self, context: int) -> float:
        """FLOPs per token of one block's forward pass, averaged over the positions of a context."""
        return 2 * (self.attention + self.mlp) + 2 * self.heads_width * (context + 1)

    @property
    def parameters(self) -> int:
        """Weights of blocks and embeddings."""
        return self.blocks * (self.attention + self.mlp + self.idle) + self.vocabulary * self.width


def model_cost(
    name: str, config: Mapping[str, Any], places: Sequence[HookPoint], context: int, dtype: str
) -> ModelCost:
    """Of passes over contexts of so many tokens that end where all `places` have been read. Raises NotKnown.

    config: a `config.json` of transformers. dtype: of the weights; `auto`: that of the checkpoint.
    """
    sizes = model_sizes(config)
    blocks, each = max(place.blocks(sizes.blocks) for place in places), sizes.block_flops(context)
    if dtype == "auto":
        dtype = str(config.get("dtype") or config.get("torch_dtype"))
    return ModelCost(
        name=name,
        blocks=blocks,
        of_blocks=sizes.blocks,
        flops_per_token=blocks * each,
        whole_flops_per_token=sizes.blocks * each + 2 * sizes.width * sizes.vocabulary,
        parameters=sizes.parameters,
        vocabulary=sizes.vocabulary,
        context=context,
        dtype=dtype if dtype in BYTES else "float32",
        config=config,
    )


def model_sizes(config: Mapping[str, Any]) -> ModelSizes:
    """Sizes as a `config.json` of transformers has them. Raises NotKnown."""
    inner = config.get("text_config")
    config = inner if isinstance(inner, Mapping) else config
    width, blocks, heads = (_wanted(config, name) for name in ("width", "blocks", "heads"))
    head_width = _number(config, "head_width") or width // heads
    key_heads = _number(config, "key_heads") or (1 if config.get("multi_query") is True else heads)
    attention = 2 * width * head_width * (heads + key_heads)  # queries and outputs; keys and values
    hidden = _number(config, "hidden") or 4 * width
    matrices = 2 if config.get("model_type") in TWO_MATRICES else 3
    mlp, idle = matrices * width * hidden, 0
    if (experts := _number(config, "experts")) and (chosen := _number(config, "chosen_experts")):
        each = matrices * width * (_number(config, "expert_hidden") or hidden)
        shared = matrices * width * (_number(config, "shared_hidden") or 0)
        mlp, idle = chosen * each + shared + width * experts, (experts - chosen) * each
    vocabulary = _number(config, "vocabulary") or 0
    return ModelSizes(blocks, width, vocabulary, attention, mlp, idle, heads * head_width)


def _wanted(config: Mapping[str, Any], name: str) -> int:
    value = _number(config, name)
    if value is None:
        raise NotKnown(f"its config.json has none of {', '.join(NAMES[name])}")
    return value


def _number(config: Mapping[str, Any], name: str) -> int | None:
    for key in NAMES[name]:
        value = config.get(key)
        if isinstance(value, int) and not isinstance(value, bool) and value > 0:
            return value
    return None
