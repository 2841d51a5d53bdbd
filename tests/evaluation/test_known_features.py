"""Recovery of known features, against numbers made by hand."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import linear_sum_assignment

from harness.evaluation import known_features
from harness.evaluation.known_features import Codes, Recovery


def some_features(tokens: int = 400, count: int = 6, seed: int = 0) -> torch.Tensor:
    random = torch.Generator().manual_seed(seed)
    fires = torch.rand(tokens, count, generator=random) < 0.2
    return fires * (0.5 + torch.rand(tokens, count, generator=random))


def blocks_of(codes: torch.Tensor, size: int) -> list[Codes]:
    """Dense codes [T, N] as blocks of so many tokens, zeros left out."""
    blocks = []
    for start in range(0, len(codes), size):
        rows = codes[start : start + size]
        tokens, latents = (places.int() for places in rows.nonzero().unbind(1))
        blocks.append(Codes(start, start + len(rows), tokens, latents, rows[tokens, latents]))
    return blocks


def recovery(codes: torch.Tensor, features: torch.Tensor, size: int = 64) -> Recovery:
    return known_features.recovery(blocks_of(codes, size), codes.shape[1], features)


def dense(codes: torch.Tensor, features: torch.Tensor, tolerance: float = 1e-12) -> Recovery:
    """The definitions written out, in float64."""
    codes, features = codes.double(), features.double()
    features = features[:, (features > 0).any(0)]
    count, latents = features.shape[1], codes.shape[1]
    both = torch.cat([codes, features], 1)
    varies = both.amax(0) > both.amin(0)
    about_mean = both - both.mean(0)
    lengths = torch.where(varies, about_mean.square().sum(0).sqrt(), torch.inf)
    alike = ((about_mean / lengths).T @ (about_mean / lengths)).abs()[:latents, latents:]
    rows, columns = linear_sum_assignment(alike.numpy(), maximize=True)
    f1 = 0.0
    for row, column in zip(rows, columns, strict=True):
        says, true = codes[:, row] > 0, features[:, column] > 0
        hits = float((says & true).sum())
        if hits:
            precision, recall = hits / float(says.sum()), hits / float(true.sum())
            f1 += 2 * precision * recall / (precision + recall)
    fires = (codes > 0).any(0)
    best, feature = alike[fires].max(1)
    found = len({int(f) for f, value in zip(feature, best, strict=True) if value > 0})
    return close(
        float(alike[rows, columns].sum()) / count, f1 / count, found / min(int(fires.sum()), count), tolerance
    )


def close(mcc: float, f1: float, uniqueness: float, tolerance: float = 1e-5) -> Recovery:
    return Recovery(*(pytest.approx(value, abs=tolerance) for value in (mcc, f1, uniqueness)))


@given(
    st.integers(0, 2**31),
    st.integers(80, 200),
    st.integers(1, 9),
    st.integers(1, 9),
    st.integers(1, 70),
    st.booleans(),
)
def test_blocks_of_entries_have_the_values_of_the_definitions(
    seed, tokens, latents, count, size, constant
) -> None:
    random = torch.Generator().manual_seed(seed)
    features = some_features(tokens, count, seed)
    codes = (features @ torch.rand(count, latents, generator=random)).float()
    codes = codes * (torch.rand(tokens, latents, generator=random) < 0.6)
    if constant:
        codes[:, 0] = 0.1
    if not (features > 0).any() or not (codes > 0).any():
        return
    assert recovery(codes, features, size) == dense(codes, features)


def test_a_latent_that_hardly_varies_has_its_correlation_still() -> None:
    features = some_features(tokens=3000)
    codes = (1e6 + (features * 16).round() / 16).float()
    assert recovery(codes, features) == dense(codes, features, 1e-9)


@given(st.permutations(range(6)), st.floats(1e-25, 1e25), st.sampled_from([torch.float32, torch.float64]))
def test_order_and_size_of_latents_do_not_matter(order: list[int], size: float, dtype: torch.dtype) -> None:
    features = some_features()
    assert recovery(features[:, order].to(dtype) * size, features) == close(1, 1, 1)


def test_a_tiny_case() -> None:
    features = torch.tensor([[1, 0], [1, 0], [0, 1], [0, 0], [0, 0], [0, 0.0]])
    codes = torch.tensor([[1, 0], [0, 0], [0, 2], [0, 2], [0, 0], [0, 0.0]])
    # Both pairs correlate by (6 - 2) / sqrt(2 * 4 * 1 * 5). The first latent misses one of two tokens: P 1, R 1/2;
    # the second fires once too often: P 1/2, R 1. Across, it is -1/2 and -1/5.
    assert recovery(codes, features) == close(4 / 40**0.5, 2 / 3, 1)
    assert recovery(codes.flip(1), features) == close(4 / 40**0.5, 2 / 3, 1)


def test_a_latent_that_says_the_opposite_correlates_but_does_not_fire_with_the_feature() -> None:
    features = torch.tensor([[1], [0], [0], [0.0]])
    assert recovery(1 - features, features) == close(1, 0, 1)


def test_the_matching_maximises_the_sum_not_the_first_pair() -> None:
    features = torch.tensor([[1, 1], [1, 0], [0, 1], [0, 0], [0, 0.0]])
    codes = torch.stack([features[:, 0], features.sum(1)], dim=1)
    # The sum resembles both features; the first latent takes the first one, so the second is left to the sum.
    expected = float(torch.corrcoef(torch.stack([features[:, 1], codes[:, 1]]))[0, 1])
    assert recovery(codes, features).mcc == pytest.approx((1 + expected) / 2, abs=1e-6)


def test_fewer_latents_than_features() -> None:
    features = some_features()
    assert recovery(features[:, :3], features) == close(0.5, 0.5, 1)


def test_dead_latents_recover_nothing_and_harm_nothing() -> None:
    features = some_features()
    dead = torch.zeros(len(features), 3)
    assert recovery(torch.cat([dead, features], dim=1), features) == close(1, 1, 1)
    assert recovery(torch.cat([features[:, :3], dead], dim=1), features) == close(0.5, 0.5, 1)
    assert recovery(dead, features) == Recovery(0, 0, 0)


def test_features_that_never_fire_are_left_out() -> None:
    features = some_features()
    silent = torch.cat([features, torch.zeros(len(features), 4)], dim=1)
    assert recovery(features, silent) == close(1, 1, 1)


def test_latents_that_share_a_feature_are_not_unique() -> None:
    features = some_features()
    copies = torch.cat([features[:, :1]] * 4 + [features[:, 1:3]], dim=1)
    assert recovery(copies, features).uniqueness == 3 / 6
    assert recovery(copies[:, :4], features).uniqueness == 1 / 4


@pytest.mark.parametrize("value", [0.1, 1.0, 1e6])
def test_constants_correlate_with_nothing(value: float) -> None:
    features = some_features()
    assert recovery(torch.full_like(features, value), features).mcc == 0
    assert recovery(features, torch.full_like(features, value)).mcc == 0
    assert recovery(torch.full_like(features, value), features).uniqueness == 0


def test_nothing_to_compare() -> None:
    features = some_features()
    assert recovery(features, torch.zeros_like(features)) == Recovery(0, 0, 0)
    assert recovery(features[:, :0], features) == Recovery(0, 0, 0)
    assert Recovery(1, 2, 3).as_dict() == {"mcc": 1, "f1": 2, "uniqueness": 3}


def test_it_is_the_correlation_of_numpy() -> None:
    features, codes = some_features(count=1), some_features(seed=1, count=1) + 100
    expected = abs(float(torch.corrcoef(torch.cat([features, codes], dim=1).double().T)[0, 1]))
    assert recovery(codes, features).mcc == pytest.approx(expected, abs=1e-5)
