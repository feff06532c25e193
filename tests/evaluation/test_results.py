"""Results of a model and its baselines."""

import dataclasses
import json

import numpy as np
import pytest

from tests.evaluation.ranked_queries import evaluation
from tfrec_meta.evaluation import (
    BaselineSettings,
    ChosenOn,
    Estimate,
    Evaluations,
    compare,
    format_groups,
)
from tfrec_meta.evaluation.judged import EventSummary, SplitSummary
from tfrec_meta.evaluation.predictions import PredictionEvaluations


@pytest.fixture
def found():
    parts = {
        "ours": evaluation(1, 1, 2, 5),
        "popularity": evaluation(5, 5, 5, 2),
        "ials": evaluation(1, 2, 2, 5),
    }
    return Evaluations(
        parts,
        {
            "popularity": BaselineSettings({}),
            "ials": BaselineSettings({"l2": 30.0, "dim": 8}, ("l2",), 4, ChosenOn.VALIDATION),
        },
        {name: compare(parts["ours"], parts[name], "ndcg@2") for name in ("popularity", "ials")},
    )


def test_the_best_baseline_has_the_highest_value_of_the_main_metric(found):
    assert found.metric == "ndcg@2"
    assert found.best_baseline == "ials"
    second = 1 / np.log2(3)
    # Only query 1 differs: rank 1 instead of 2.
    assert found.difference_to_best.difference == pytest.approx((1 - second) / 4)


def test_without_baselines_there_is_no_best_one(found):
    alone = Evaluations({"ours": found["ours"]})
    assert alone.best_baseline is None
    assert alone.difference_to_best is None
    assert alone.summary() == alone.remarks() == []


def test_new_users_and_items_of_the_test_are_counted_and_stored(found):
    size = EventSummary(9, 4, 5)
    split = SplitSummary("by time", size, size, size, size)
    alone = {"ours": found["ours"]}
    assert Evaluations(alone, judged_on=split).remarks() == []
    some = Evaluations(alone, judged_on=dataclasses.replace(split, new_users=3))
    (line,) = some.remarks()
    assert line.startswith("3 of the 4 test users and 0 of the 5 test items have no train or")
    again = Evaluations.from_dict(json.loads(json.dumps(some.as_dict())))
    assert again.judged_on == some.judged_on


def test_repeats_that_count_as_misses_are_mentioned(found):
    counts = {**found["ours"].counts, "relevant": 4, "seen": 3}
    text = str(Evaluations({"ours": dataclasses.replace(found["ours"], counts=counts)}))
    assert "3 of the 4 test pairs repeat an item of the user's history." in text
    assert "--recommend-history" in text
    assert "--recommend-history" not in str(found)


def test_a_baseline_that_is_better_beyond_chance_comes_with_advice(found):
    for high, advised in ((-0.01, True), (0.01, False)):
        difference = dataclasses.replace(found.difference_to_best, low=-0.02, high=high)
        some = Evaluations(found, found.settings, {"ials": difference})
        assert ("ials is better than the model. Search for" in str(some)) is advised


def test_the_text_has_the_groups_the_difference_and_the_settings(found):
    text = str(found)
    assert f"ours - ials (the best baseline): {found.differences['ials']}" in text
    assert "ials: l2=30.0 (best of 4 settings on the validation part)" in text
    assert "popularity: " not in text  # it has no settings
    table = format_groups(found).splitlines()
    assert table[0].split() == ["ndcg@2", "users", "pairs", "ours", "popularity", "ials"]
    assert [line[:12].strip() for line in table[1:]] == [
        *("known users", "new users", "repeat items", "new items")
    ]
    assert table[1].split()[2:4] == ["2", "2"]
    assert table[3].split()[2:] == ["0", "0", "-", "-", "-"]


def test_an_evaluation_without_groups_has_dashes_among_those_with_groups(found):
    plain = dataclasses.replace(found["ours"], groups={})
    table = format_groups({"ours": found["ours"], "peer": plain}).splitlines()
    assert [line.split()[-1] for line in table] == ["peer", "-", "-", "-", "-"]


def test_evaluations_are_read_as_they_were_written(found):
    again = Evaluations.from_dict(json.loads(json.dumps(found.as_dict())))
    assert again.as_dict() == found.as_dict()
    assert str(again) == str(found)
    assert again.settings == found.settings
    assert again.difference_to_best == found.difference_to_best


def test_results_of_versions_without_predictions_are_read(found):
    record = found.as_dict()
    assert record.pop("predictions") == {}
    assert Evaluations.from_dict(record).as_dict() == found.as_dict()


def test_metrics_of_predictions_are_printed_and_read(found):
    found.predictions = PredictionEvaluations({"rating": {"rmse": Estimate(0.5)}})
    assert str(found).splitlines()[-1].split() == ["rmse", "0.5000"]
    again = Evaluations.from_dict(json.loads(json.dumps(found.as_dict())))
    assert again.predictions == {"rating": {"rmse": Estimate(0.5)}}


def test_default_settings_are_called_so():
    assert str(BaselineSettings({"l2": 400.0})) == "default settings"
