"""The order of the tokens: every one once per epoch, window by window, as a function of the step alone."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.training.stream import Order
from tests.training.cells import rows_of

orders = st.builds(
    Order,
    batch=st.integers(1, 64),
    seed=st.integers(0, 5),
    tokens=st.integers(64, 500),
    window=st.integers(1, 600),
)


def epoch_of(order: Order, number: int) -> np.ndarray:
    """The tokens of an epoch, in their order."""
    steps = range(number * order.batches, (number + 1) * order.batches)
    return np.concatenate([rows_of(order, step).numpy() for step in steps])


@given(orders, st.integers(0, 2))
def test_an_epoch_goes_through_the_windows_and_sees_every_token_of_them_once(order, number):
    seen = epoch_of(order, number)
    assert len(seen) == order.batches * order.batch > order.tokens - order.batch
    for start in range(0, len(seen), order.window):
        window = seen[start : start + order.window]
        stop = min(start + order.window, order.tokens)
        assert len(set(window)) == len(window)  # the last one may be cut: its batch is not full
        assert {*window} <= {*range(start, stop)}


@given(orders, st.integers(0, 100))
def test_a_batch_is_a_function_of_its_step(order, step):
    """Whoever asks for it, and whatever was asked for before: a resumed cell goes on with the same tokens."""
    epoch, place = divmod(step, order.batches)
    whole = []
    for window in range(-(-order.tokens // order.window)):
        first = window * order.window
        generator = np.random.default_rng([order.seed, epoch, window])
        whole += [*first + generator.permutation(min(order.window, order.tokens - first))]
    assert whole[place * order.batch :][: order.batch] == rows_of(order, step).tolist()
    assert sum(piece.stop - piece.start for piece in order.pieces(step)) == order.batch


@given(orders, st.integers(0, 100))
def test_the_next_window_is_the_first_that_is_not_in_the_batch(order, step):
    last = order.pieces(step)[-1].order
    following, needed = order.next_window(step)
    assert needed > step
    assert {piece.order for between in range(step + 1, needed) for piece in order.pieces(between)} <= {last}
    assert following in [piece.order for piece in order.pieces(needed)][:2]


def test_epochs_windows_and_seeds_have_orders_of_their_own():
    def order(seed, epoch, window):
        return tuple(Order(10, seed, 100, 50).pieces(epoch * 10 + window * 5)[0].order.rows())

    found = {order(*one) for one in [(0, 0, 0), (0, 0, 1), (0, 1, 0), (1, 0, 0)]}
    assert len(found) == 4
    with pytest.raises(ValueError, match="needs as many"):
        Order(10, 0, 9, 50)
