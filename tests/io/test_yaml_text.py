"""Plain values of YAML texts: what is refused."""

import time

import pytest

from tfrec_meta.io.yaml_text import parse_yaml

BOMB = "a: &a [x,x,x,x,x,x,x,x,x]\n" + "".join(
    f"{new}: &{new} [{', '.join(['*' + old] * 9)}]\n"
    for old, new in zip("abcdefg", "bcdefgh", strict=True)
)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (BOMB, "stands for more than 1,000,000 characters, aliases included"),
        ("a: &a " + "x" * 20_000 + "\nb: [" + "*a, " * 100 + "]", "stands for more than"),
        ("a: &a {b: *a}", "contains itself"),
        ("[" * 60 + "]" * 60, "nested deeper than 50"),
        ("[" * 5000, "is not valid YAML"),
        ("x" * 1_000_001, "has 1,000,001 characters"),
        ("a: 2026-13-45", "is not valid YAML"),
        ("a: " + "9" * 5000, "is not valid YAML"),
        ("seed: 1\nseed: 2", "has two values for the key 'seed'; keep one"),
        ("data: {columns: {time: a, time: b}}", "has two values for the key 'time'; keep one"),
        ("{[1]: 2}", "is not valid YAML"),
        ("!!python/object/apply:os.getcwd []", "is not valid YAML"),
    ],
    ids=lambda value: "",
)
def test_yaml_that_stands_for_too_much_is_refused(text, words):
    began = time.monotonic()
    with pytest.raises(ValueError, match=words):
        parse_yaml(text, "the text")
    assert time.monotonic() - began < 10


def test_a_few_aliases_are_accepted():
    assert parse_yaml("a: &a [1, 2]\nb: *a\nc: {<<: {d: *a}}", "t") == {
        "a": [1, 2],
        "b": [1, 2],
        "c": {"d": [1, 2]},
    }
