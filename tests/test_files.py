"""Files that are whole or not there, in JSON, and how long a full disk is waited for."""

from __future__ import annotations

from itertools import islice

from harness.backoff import backoff


def test_each_pause_is_twice_the_one_before_up_to_the_longest():
    assert list(islice(backoff(3.0), 5)) == [0.5, 1.0, 2.0, 3.0, 3.0]
