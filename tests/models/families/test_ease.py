"""EASE."""

import pytest

from tfrec_meta.models import EASEConfig


@pytest.mark.parametrize("l2", [0.0, -1.0, float("nan")])
def test_ease_refuses_a_penalty_that_is_not_positive(l2):
    with pytest.raises(ValueError, match="l2"):
        EASEConfig(l2=l2)
