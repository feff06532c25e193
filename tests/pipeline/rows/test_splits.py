"""Splits of users and times."""

import numpy as np

from tests.pipeline import conftest
from tfrec_meta.data import Interactions
from tfrec_meta.pipeline.config import SplitConfig
from tfrec_meta.pipeline.rows.splits import parts_of, time_cuts
from tfrec_meta.pipeline.rows.surveys import RowSurvey


def in_memory(table):
    """Returns the events in the order of Histories."""
    keys = ["user_id", "time", "item_id", "value"]
    table = table.sort_by([(key, "ascending") for key in keys])
    return Interactions.from_arrays(**{key: table[key] for key in keys})


def test_only_the_seed_determines_which_users_are_cold():
    config = SplitConfig("cold-users", 0.6, 0.2)
    few, many = (in_memory(conftest.toy_interactions(rows, 40, 9)) for rows in (300, 600))

    def drawn(data, seed):
        parts = parts_of(data, config, None, seed)
        return dict(zip(data.events["user_id"].to_pylist(), parts.tolist(), strict=True))

    assert drawn(few, 1) == drawn(many, 1)
    assert drawn(few, 1) != drawn(few, 2)


def test_time_cuts_equal_those_of_split_by_time():
    # Ten events; 0.5 of them are before the sixth, 0.8 before the ninth.
    survey = RowSurvey({}, 10, np.array([1, 2, 5, 9]), np.array([4, 1, 3, 2]))
    assert time_cuts(survey, SplitConfig(train=0.5, validation=0.3)) == (5, 9)
