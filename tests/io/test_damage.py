"""Damaged files: each error names the file, what is wrong and the way out."""

import json

import pytest

from tfrec_meta.errors import ParameterTypeError
from tfrec_meta.io.damage import DamagedFile, reading


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (KeyError("k"), "it has no 'k'"),
        (ValueError("`k`=0; use 1 or more."), "`k`=0; use 1 or more"),
        (ParameterTypeError("`k`='a'; use 1 or more.", "k"), "`k`='a'; use 1 or more"),
        (FileNotFoundError(2, "No such file or directory", "/a/b"), "b: No such file or directory"),
        *[
            (kind("of our code"), "it has values of other types, or fewer values")
            for kind in (TypeError, AttributeError, IndexError, OverflowError)
        ],
    ],
    ids=lambda value: type(value).__name__,
)
def test_an_error_while_a_record_is_read_is_damage_of_its_file(error, reason):
    with pytest.raises(DamagedFile) as raised, reading("run.json", "Train again"):
        raise error
    assert str(raised.value).startswith(f"run.json is damaged: {reason}")
    assert str(raised.value).endswith(". Train again.")
    assert type(error).__name__ not in str(raised.value)


def test_damage_that_is_known_already_keeps_its_file():
    with pytest.raises(DamagedFile, match=r"^inner is damaged"), reading("outer", "Train again"):
        raise DamagedFile("inner", "it is empty", "Copy it")


def test_a_record_without_faults_is_read():
    with reading("run.json", "Train again"):
        assert json.loads("[1]") == [1]
