"""What counts as an answer, and what does not."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.interpretability.endpoint.replies import explanation_in, pick_in, verdicts_in

YES, NO = True, False


@pytest.mark.parametrize(
    ("reply", "verdicts"),
    [
        ("[1, 0, 1]", (YES, NO, YES)),
        (" [true,false,\n1] ", (YES, NO, YES)),
        ("```json\n[1, 0, 1]\n```", (YES, NO, YES)),
        ("<think>It may be [0, 0, 0].</think>\n\n[1, 0, 1]", (YES, NO, YES)),
        ("[1, 2, 1]", (YES, None, YES)),
        ('[1, "0", null]', (YES, None, None)),
        ("[1, 0.0, 1]", (YES, None, YES)),
        ("[1, 0]", (None,) * 3),
        ("[1, 0, 1, 0]", (None,) * 3),
        ("[[1, 0, 1]]", (None,) * 3),
        ("1, 0, 1", (None,) * 3),
        ("101", (None,) * 3),
        ('{"answers": [1, 0, 1]}', (None,) * 3),
        ("Sure: [1, 0, 1]", (None,) * 3),
        ("[1, 0, 1] because of the first", (None,) * 3),
        ("[1, 0,", (None,) * 3),
        ("<think>[1, 0, 1]", (None,) * 3),
        ("[" * 100_000, (None,) * 3),
        ("[" + "9" * 5_000 + ", 0, 1]", (None,) * 3),
        ("", (None,) * 3),
        (None, (None,) * 3),
    ],
)
def test_verdicts(reply, verdicts):
    assert verdicts_in(reply, 3) == verdicts


@pytest.mark.parametrize(
    ("reply", "picked"),
    [
        ("2", 2),
        (" 3.\n", 3),
        ("Excerpt 1", 1),
        ("<think>1?</think>2", 2),
        ("0", None),
        ("4", None),
        ("-1", None),
        ("1 or 2", None),
        ("[2]", None),
        ("two", None),
        ("²", None),
        ("", None),
        (None, None),
    ],
)
def test_picks(reply, picked):
    assert pick_in(reply, 3) == ((None,) * 3 if picked is None else tuple(n == picked for n in (1, 2, 3)))


@pytest.mark.parametrize(
    ("reply", "text"),
    [
        (" Names of\n rivers. ", "Names of rivers."),
        ("Explanation: rivers", "rivers"),
        ("<think>hm</think>rivers", "rivers"),
        ("riv\0er\x1b[31ms", "riv er [31ms"),
        ("x" * 500, "x" * 500),
        ("x" * 501, None),
        ("  \n", None),
        ("", None),
        (None, None),
    ],
)
def test_explanations(reply, text):
    assert explanation_in(reply) == text


@given(st.none() | st.text() | st.text("[]01,truefals \n`json<>/thik"), st.integers(1, 5))
def test_any_reply_gives_as_many_answers_as_were_asked_for(reply, count):
    for read in (verdicts_in, pick_in):
        found = read(reply, count)
        assert len(found) == count
        assert set(found) <= {True, False, None}
