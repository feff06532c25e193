"""Words of a text."""

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given, settings

from tfrec_meta.features import text


def words(value, width=4):
    return [token.decode() for token in text.words([value], width).numpy()[0]]


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("Toy Story (1995)", ["toy", "story", "1995", ""]),
        ("", ["", "", "", ""]),
        (" \t\n!?…", ["", "", "", ""]),
        ("one two three four five", ["one", "two", "three", "four"]),
        ("l'Été à-la carte", ["l", "été", "à", "la"]),
        ("Ame\u0301lie", ["ame\u0301lie", "", "", ""]),  # a mark is part of its word
        ("ΟΔΥΣΣΕΥΣ", ["οδυσσευς", "", "", ""]),  # a final sigma is a different letter
        ("霸王别姬 Farewell", ["霸王别姬", "farewell", "", ""]),
        ("Se7en🎬rocks", ["se7en", "rocks", "", ""]),
        ("İSTANBUL Iğdır", ["istanbul", "iğdır", "", ""]),
        ("JĮÌÍĨ", ["jįìíĩ", "", "", ""]),
        (b"caf\xe9 noir", ["caf", "noir", "", ""]),
    ],
)
def test_words_match_values_worked_by_hand(value, expected):
    assert words(value) == expected


def test_letters_that_a_locale_lowers_its_own_way_never_reach_it(monkeypatch):
    """A Turkish server would otherwise look "TITANIC" up as "tıtanıc"."""
    seen = []
    lower = text.tf.strings.lower

    def spy(texts, encoding):
        seen.extend(value.decode() for value in texts.numpy())
        return lower(texts, encoding=encoding)

    monkeypatch.setattr(text.tf.strings, "lower", spy)
    assert words("TITANIC İI JĮÌÍĨ") == ["titanic", "ii", "jįìíĩ", ""]
    assert seen == ["TiTANiC ii jįìíĩ"]


ascii_texts = st.text(st.characters(max_codepoint=127), max_size=12)
wild_texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)


@settings(max_examples=60, deadline=None)
@given(texts=st.lists(ascii_texts | st.text(" a-B.\t9", max_size=12), min_size=1, max_size=8))
def test_ascii_texts_have_the_same_words_in_both_implementations(texts):
    short, long = text._normalised(texts), text._normalised_unicode(texts)
    strip = text.tf.strings.strip
    np.testing.assert_array_equal(strip(short), strip(long))


@settings(max_examples=60, deadline=None)
@given(texts=st.lists(ascii_texts | wild_texts | st.binary(max_size=6), min_size=1, max_size=8))
def test_words_of_a_text_do_not_depend_on_its_neighbours(texts):
    alone = np.concatenate([text.words([value], 4) for value in texts])
    np.testing.assert_array_equal(text.words(texts, 4), alone)


def test_nul_separates_words_with_and_without_ascii():
    assert words("a\x00B") == ["a", "b", "", ""]
    assert words("é\x00B") == ["é", "b", "", ""]


def test_no_text_has_no_words():
    assert text.words(text.tf.constant([], text.tf.string), 3).shape == (0, 3)
