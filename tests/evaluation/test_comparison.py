"""Paired comparisons of two models in all metrics and groups."""

import dataclasses
import json

import numpy as np
import pytest

from tests.evaluation.ranked_queries import RELEVANT, SEEN, evaluation
from tfrec_meta.evaluation import Group, compare, full_catalogue
from tfrec_meta.evaluation.comparison import compare_all, compare_predictions


@pytest.fixture
def found():
    # Queries 0 and 1 are of known users. Only query 1 differs: rank 1 and rank 2.
    return compare_all({"a": evaluation(1, 1, 2, 5), "b": evaluation(1, 2, 2, 5)}, resamples=50)


def test_every_metric_with_values_per_query_is_compared(found):
    a, b = found.evaluations.values()
    gain = 1 - 1 / np.log2(3)
    assert found.differences["ndcg@2"].difference == pytest.approx(gain / 4)
    assert found.differences["mrr@2"].difference == pytest.approx((1 - 1 / 2) / 4)
    assert found.differences["hr@2"].difference == 0
    assert set(a.metrics) - set(found.differences) == {"coverage@2", "popularity_lift@2"}
    for name, one in found.differences.items():
        alone = dataclasses.asdict(compare(a, b, name, resamples=50))
        assert alone.pop("metric") == name
        assert {key: getattr(one, key) for key in alone} == pytest.approx(alone)


def test_groups_are_compared_by_their_own_queries(found):
    gain = 1 - 1 / np.log2(3)
    differences = {group: each["ndcg@2"] for group, each in found.groups.items() if each}
    assert differences[Group.KNOWN_USERS].difference == pytest.approx(gain / 2)
    assert differences[Group.NEW_USERS].difference == 0
    assert differences[Group.NEW_USERS].p == 1
    assert differences[Group.NEW_ITEMS].difference == pytest.approx(gain / 4)
    assert found.groups[Group.REPEAT_ITEMS] == {}  # no user has seen an item


def test_the_text_has_one_row_per_metric_and_one_per_group(found):
    metrics, groups = str(found).split("\n\n")
    assert metrics.splitlines()[0].split() == ["a", "b", "a", "-", "b", "p"]
    rows = {line.split()[0]: line.split()[1:] for line in metrics.splitlines()[1:]}
    assert list(rows) == list(found.evaluations["a"].metrics)
    assert rows["mrr@2"][:3] == ["0.6250", "0.5000", "+0.1250"]
    assert rows["coverage@2"][-1] == "-"
    lines = groups.splitlines()
    assert lines[0].split()[:3] == ["ndcg@2", "users", "pairs"]
    assert lines[3].split() == ["repeat", "items", "0", "0", "-", "-", "-", "-"]


def test_predictions_have_a_table_of_their_own(found):
    paired = compare_predictions(
        "rating", [1.0, 2.0], {"a": [1.0, 2.0], "b": [2.0, 3.0]}, ["u", "v"], resamples=9
    )
    both = dataclasses.replace(found, predictions={"rating": paired}, notes=["A note."])
    *_, table, note = str(both).split("\n\n")
    assert table.splitlines()[0].split()[0] == "rating"
    assert table.splitlines()[1].split()[:4] == ["rmse", "0.0000", "1.0000", "-1.0000"]
    assert note == "A note."
    record = both.as_dict()["predictions"]["rating"]
    assert record["metrics"]["b"]["mae"]["value"] == 1
    assert record["differences"]["mae"]["difference"] == -1


def test_the_result_is_plain_json(found):
    record = json.loads(json.dumps(found.as_dict()))
    assert record["groups"]["repeat_items"] == {}
    assert record["differences"]["mrr@2"]["difference"] == pytest.approx(0.125)


def test_catalogues_of_different_size_are_mentioned(found):
    wide = full_catalogue(
        lambda rows: np.zeros((len(rows), 6), np.float32), _wider(RELEVANT), _wider(SEEN), k=2
    )
    text = str(compare_all({"a": found.evaluations["a"], "wide": wide}, resamples=5))
    assert "a ranks 5 items and wide ranks 6." in text
    assert "catalogues" not in str(found)


def _wider(matrix):
    wide = matrix.copy()
    wide.resize((4, 6))
    return wide


def test_other_queries_are_refused():
    fewer = full_catalogue(
        lambda rows: np.zeros((len(rows), 5), np.float32), RELEVANT[:3], SEEN[:3], k=2
    )
    with pytest.raises(ValueError, match="`a` has 4 queries and `b` has 3"):
        compare_all({"a": evaluation(1, 1, 2, 5), "b": fewer})
