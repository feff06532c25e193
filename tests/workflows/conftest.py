import pytest

import tfrec_meta as tm
from tests.workflows.small_split import SPLIT


@pytest.fixture(scope="session")
def popularity():
    """A popularity model of the small split."""
    return tm.train(SPLIT, "popularity")
