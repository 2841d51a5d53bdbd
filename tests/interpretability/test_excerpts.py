"""Windows as text: what is marked is what a latent fires on, character by character."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.interpretability.endpoint.excerpts import decode, marks_for, show
from tests.activations.pretrained_models import letters, words

TOKENIZER = letters()  # a byte is a token
WORDS = words(True)


def shown(text: str, marked):
    ids = TOKENIZER.encode(text, add_special_tokens=False)
    assert len(ids) == len(text.encode())
    return show(TOKENIZER, ids, [marked(number) for number in range(len(ids))])


def by_character(text: str, marked) -> str:
    """The text with a mark around every run of characters of which a byte is marked."""
    flags, position = [], 0
    for letter in text:
        size = len(letter.encode())
        flags.append(any(marked(position + offset) for offset in range(size)))
        position += size
    found, before = "", False
    for letter, flag in zip(text, flags, strict=True):
        found += ("\0" if flag and not before else "") + ("\1" if before and not flag else "") + letter
        before = flag
    return found + ("\1" if before else "")


LETTERS = st.text(st.sampled_from('ab <>{}[]é日𝄞\n"\\�'), max_size=12)


@given(LETTERS, st.integers(0, 2**36 - 1))
def test_marks_stand_around_the_characters_of_the_marked_tokens(text, bits):
    one = shown(text, lambda number: bits >> number & 1 == 1)
    assert one.text == text
    assert one.marked(("\0", "\1")) == by_character(text, lambda number: bits >> number & 1 == 1)


@given(st.lists(st.tuples(LETTERS, st.integers(0, 2**36 - 1)), max_size=3))
def test_marks_can_be_told_from_the_text(cases):
    all_shown = [shown(text, lambda number, bits=bits: bits >> number & 1 == 1) for text, bits in cases]
    opening, closing = marks_for(all_shown)
    for one in all_shown:
        line = one.line((opening, closing))
        assert "\n" not in line
        text = json.loads(line)
        assert text.replace(opening, "").replace(closing, "") == one.text
        pieces = [piece.partition(closing)[0] for piece in text.split(opening)[1:]]
        assert pieces == [part for part, is_marked in one.parts if is_marked]


@pytest.mark.parametrize(
    ("text", "marks"),
    [
        ("a -> b", ("<<", ">>")),
        (">>> print(1)", ("{{", "}}")),
        ("1 << {{x}}", ("⟦", "⟧")),
        ("<< {{ ⟦", ("[mark3]", "[/mark3]")),
        ("<< {{ ⟦ [mark3]", ("[mark4]", "[/mark4]")),
    ],
)
def test_marks_that_the_text_has_are_not_used(text, marks):
    assert marks_for([shown(text, lambda number: number == 0)]) == marks


def test_a_bracket_beside_a_mark_would_hide_it():
    assert marks_for([shown("a<b", lambda number: number == 2)])[0] == "{{"
    assert marks_for([shown("a<b", lambda number: number == 0)])[0] == "<<"


def test_a_window_may_begin_and_end_within_a_character():
    ids = TOKENIZER.encode("日a日", add_special_tokens=False)[1:-1]
    for number in range(len(ids)):
        one = show(TOKENIZER, ids, [number == place for place in range(len(ids))])
        assert one.text == decode(TOKENIZER, ids)
        marked = [part for part, is_marked in one.parts if is_marked]
        assert len(marked) == 1
        assert ("a" in marked[0]) == (number == 2)


def test_special_tokens_are_shown_and_words_apart():
    ids = WORDS.encode("word1 word2 word3")
    one = show(WORDS, ids, [True, False, True, False])
    assert one.marked(("<<", ">>")) == "<<<s>>> word1<< word2>> word3"
