"""Nests of anything as flat mappings of tensors."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from harness.training.checkpoint import Checkpoints
from harness.training.state import pack, unpack

TENSORS = st.builds(
    lambda shape, dtype, seed: torch.randint(0, 9, shape, generator=torch.Generator().manual_seed(seed)).to(dtype),
    st.lists(st.integers(0, 3), max_size=3),
    st.sampled_from([torch.float32, torch.float64, torch.int64, torch.bool, torch.bfloat16]),
    st.integers(0, 99),
)
TREES = st.recursive(
    TENSORS | st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=9),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.lists(inner, max_size=3).map(tuple)
        | st.dictionaries(st.text(max_size=4) | st.integers(0, 9), inner, max_size=3)
    ),
    max_leaves=8,
)


def same(one, other) -> bool:
    if isinstance(one, torch.Tensor):
        return isinstance(other, torch.Tensor) and one.dtype == other.dtype and torch.equal(one, other)
    if isinstance(one, dict):
        return isinstance(other, dict) and one.keys() == other.keys() and all(same(one[k], other[k]) for k in one)
    if isinstance(one, list | tuple):
        return type(one) is type(other) and len(one) == len(other) and all(map(same, one, other))
    return type(one) is type(other) and one == other


@given(TREES)
def test_a_nest_comes_back_as_it_was(tmp_path_factory, tree):
    checkpoints = Checkpoints(tmp_path_factory.mktemp("nest"))
    checkpoints.save(1, pack(tree))
    assert same(unpack(checkpoints.load()), tree)


def test_keys_that_make_one_path_keep_their_tensors_apart():
    one, two, three, four = torch.arange(4.0)
    tree = {"a.b": one, "a": {"b": two}, 0: three, "0": four}
    assert same(unpack(pack(tree)), tree)


def test_numbers_keep_all_their_bits():
    numbers = [0.1 + 0.2, 1e-320, math.inf, -0.0, 2**80]
    assert list(map(repr, unpack(pack(numbers)))) == list(map(repr, numbers))


def test_what_is_no_data_is_refused_by_its_place():
    with pytest.raises(TypeError, match=r"^a\.0: cannot be checkpointed: Generator$"):
        pack({"a": [torch.Generator()]})


def test_a_missing_tensor_is_a_key_error():
    packed = pack({"a": torch.zeros(1)})
    with pytest.raises(KeyError):
        unpack({name: tensor for name, tensor in packed.items() if "a" not in name})
