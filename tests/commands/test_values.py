"""The values that options read from text."""

import click
import pytest

from tfrec_meta.commands import values


def test_names_are_split_at_commas():
    assert values.names(" a, b,,c ") == ["a", "b", "c"]
    assert values.names(None) == []


def test_quoted_names_have_commas_and_marks():
    assert values.names('12, "fish, smoked", 7') == ["12", "fish, smoked", "7"]
    assert values.names('12" disc, """fish"') == ['12" disc', '"fish']
    assert values.Columns().convert('"item_id=product, id"', None, None) == {
        "item_id": "product, id"
    }


@pytest.mark.parametrize("text", ['"fish, smoked', '1, "fish" smoked, 2', '"12"x'])
def test_a_name_that_begins_with_a_mark_has_to_end_with_one(text):
    with pytest.raises(click.UsageError, match="has to end with one, before a comma or the end"):
        values.names(text)


def test_weights_and_positive_events_are_read_from_text():
    weights = values.EventWeights().convert("view=1,a=b=2.5", None, None)
    assert weights == {"view": 1.0, "a=b": 2.5}
    for wrong in ("view", "=1", "view=", "view=much"):
        with pytest.raises(click.UsageError, match="is not TYPE=WEIGHT"):
            values.EventWeights().convert(wrong, None, None)
    assert values.Positive().convert("4", None, None) == 4.0
    assert values.Positive().convert("buy,order", None, None) == ["buy", "order"]


def test_a_filter_is_an_attribute_and_its_values():
    convert = values.AttributeValues().convert
    assert convert("genre=comedy, drama", None, None) == ("genre", ["comedy", "drama"])
    assert convert("size=a=b", None, None) == ("size", ["a=b"])
    for wrong in ("genre", "genre=", "=comedy", "genre=,"):
        with pytest.raises(click.UsageError, match="is not ATTRIBUTE=VALUE"):
            convert(wrong, None, None)


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("genres=|", {"genres": "|"}),
        ("tags=,", {"tags": ","}),
        ("genres=|,tags=;", {"genres": "|", "tags": ";"}),
        ("tags=,,genres= / ", {"tags": ",", "genres": " / "}),
    ],
)
def test_separators_of_lists_may_be_commas(words, expected):
    assert values.Separators().convert(words, None, None) == expected


def test_a_tab_can_be_written_in_words():
    for words in ("tab", "\\t", "\t"):
        assert values.Character().convert(words, None, None) == "\t"
