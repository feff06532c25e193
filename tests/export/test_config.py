"""Options fixed at export time."""

import pytest

import tfrec_meta as tm


@pytest.mark.parametrize(
    "config", [{"k": 0}, {"max_k": 0}, {"exclude_width": 0}, {"k": 11, "max_k": 10}]
)
def test_refuses_values_that_make_no_sense(config):
    with pytest.raises(ValueError, match=next(iter(config))):
        tm.ExportConfig(**config)
