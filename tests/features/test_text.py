"""Words of a text."""

from tfrec_meta.features import text

import pytest


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
        ("ΟΔΥΣΣΕΥΣ", ["οδυσσευς", "", "", ""]),  # the last sigma is another letter
        ("霸王别姬 Farewell", ["霸王别姬", "farewell", "", ""]),
        ("Se7en🎬rocks", ["se7en", "rocks", "", ""]),
        ("İSTANBUL Iğdır", ["istanbul", "iğdır", "", ""]),
        ("JĮÌÍĨ", ["jįìíĩ", "", "", ""]),
        (b"caf\xe9 noir", ["caf", "noir", "", ""]),
    ],
)
def test_words_by_hand(value, expected):
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


def test_no_text_has_no_words():
    assert text.words(text.tf.constant([], text.tf.string), 3).shape == (0, 3)
