"""Options fixed at export time."""

import dataclasses

import pytest

import tfrec_meta as tm

NUMBERS = [f.name for f in dataclasses.fields(tm.ExportConfig) if f.type == "Width"]


@pytest.mark.parametrize(
    "config", [{"k": 0}, {"max_k": 0}, {"exclude_width": 0}, {"k": 11, "max_k": 10}]
)
def test_refuses_values_that_make_no_sense(config):
    with pytest.raises(ValueError, match=next(iter(config))):
        tm.ExportConfig(**config)


@pytest.mark.parametrize("name", NUMBERS)
@pytest.mark.parametrize("value", [10**9, 100_001, 2**70, 1.5, True, "3", None, float("nan")])
def test_refuses_numbers_that_are_too_large_or_no_whole_numbers(name, value):
    with pytest.raises(ValueError, match=f"`{name}`=.*; use a whole number from 1 to 100,000"):
        tm.ExportConfig(**{name: value})


def test_every_number_of_the_config_is_limited():
    assert len(NUMBERS) == 7
