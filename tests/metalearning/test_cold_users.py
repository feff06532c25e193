"""Evaluation of cold users: support sets, relevant items, and the scores of methods."""

import numpy as np
import pytest

import tfrec_meta as tm
from tfrec_meta.metalearning.cold_users import (
    ColdUsers,
    adapted_scores,
    fine_tuned_scores,
    history_scores,
    without_support,
)
from tfrec_meta.models import IALS, IALSConfig, MetaLearned


@pytest.fixture(scope="module")
def data():
    return tm.synthetic(users=120, items=30, interactions=1800, seed=3)


@pytest.fixture(scope="module")
def model(data):
    config = tm.MetaLearnedConfig(embedding_dim=6, l2=2.0, weights_l2=5.0, shots=4)
    model = MetaLearned(config, tm.FeatureSpec(history_length=4).fit(data))
    model.fit(data)
    return model


SOME = np.array([[3, 0, 7], [0, 0, 0], [5, 2, 1]], np.int32)


def known_items(*names):
    return tm.FeatureSpec().fit(tm.Interactions.from_arrays(["x"] * len(names), names))


def test_support_holds_the_first_distinct_items_by_time_and_later_items_are_relevant():
    users = ["u"] * 6 + ["v"] * 2
    items = ["b", "a", "a", "c", "d", "new", "a", "b"]
    events = tm.Interactions.from_arrays(users, items, time=[2, 1, 3, 4, 5, 6, 1, 2])
    cold = ColdUsers(events, known_items("a", "b", "c", "d"), first=2, later=3)
    assert list(cold.users) == ["u"]  # v has too few items
    assert cold.left_out == 1
    assert cold.rows.tolist() == [[1, 2]]
    assert cold.seen.toarray().tolist() == [[1, 1, 0, 0]]
    assert cold.relevant.toarray().tolist() == [[0, 0, 1, 1]]
    assert cold.outside.tolist() == [1]


def test_first_item_outside_the_catalogue_is_row_0():
    events = tm.Interactions.from_arrays(["u"] * 3, ["new", "a", "b"])
    cold = ColdUsers(events, known_items("a", "b"), first=2, later=1)
    assert cold.rows.tolist() == [[0, 1]]
    assert cold.seen.toarray().tolist() == [[1, 0]]
    assert cold.outside.tolist() == [0]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"first": 0}, "`first`=0"),
        ({"later": 0}, "`later`=0"),
        ({"first": 3, "later": 4}, "No user has 7 items.*The largest number of items is 3"),
    ],
)
def test_too_few_items_and_sizes_below_1_are_refused(options, message):
    events = tm.Interactions.from_arrays(["u"] * 3, ["a", "b", "c"])
    with pytest.raises(ValueError, match=message):
        ColdUsers(events, known_items("a"), **options)


def test_method_gets_the_first_items_which_are_no_candidates():
    events = tm.Interactions.from_arrays(["u"] * 4, ["a", "b", "c", "d"])
    cold = ColdUsers(events, known_items("a", "b", "c", "d", "e"), first=2, later=2)
    supports = []

    def score(rows):
        supports.append(rows.tolist())
        return np.array([[9, 8, 3, 1, 2]], np.float32)  # of the candidates c, e, d

    found = [cold.evaluate(score, shots, k=5) for shots in (0, 1, 2)]
    assert supports == [[[0, 0]], [[1, 0]], [[1, 2]]]
    expected = (1 + 1 / np.log2(4)) / (1 + 1 / np.log2(3))
    assert [one["ndcg@5"].value for one in found] == pytest.approx([expected] * 3)


def test_adapted_and_history_scores_ignore_unknown_items(model):
    scores = adapted_scores(model)(SOME)
    expected, _ = model.adapt(SOME, np.ones(SOME.shape, np.float32))
    np.testing.assert_allclose(scores, expected, rtol=1e-6)
    squeezed = np.array([[3, 7, 0], [0, 0, 0], [5, 2, 1]], np.int32)
    np.testing.assert_allclose(scores, adapted_scores(model)(squeezed), rtol=1e-5)
    np.testing.assert_allclose(history_scores(model)(SOME)[[0, 2]], scores[[0, 2]], rtol=1e-5)
    np.testing.assert_allclose(
        without_support(adapted_scores(model))(SOME), scores[[1, 1, 1]], rtol=1e-6
    )


def test_history_scores_use_the_latest_items_of_a_long_support_set(model):
    rows = np.array([[1, 2, 3, 4, 5, 6]], np.int32)
    found = history_scores(model)(rows)
    np.testing.assert_allclose(found, history_scores(model)(rows[:, 2:]), rtol=1e-6)


def test_family_without_adapt_is_scored_by_histories(data, model):
    ials = IALS(IALSConfig(embedding_dim=4, iterations=2), model.spec)
    ials.fit(data)
    np.testing.assert_array_equal(adapted_scores(ials)(SOME), history_scores(ials)(SOME))


def test_fine_tuning_takes_gradient_steps_on_the_cross_entropy(model):
    found = fine_tuned_scores(model, 1, 0.5)(SOME)
    later, factors = (part.numpy()[1:] for part in (model.tables.later, model.tables.factors))
    chance = np.exp(later) / np.exp(later).sum()
    vector = 0.5 * (factors[[2, 6]].mean(axis=0) - chance @ factors)
    np.testing.assert_allclose(found[0], later + factors @ vector, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(found[1], later, rtol=1e-6)  # no support, so no step
    two = fine_tuned_scores(model, 2, 0.5)(SOME)
    assert np.abs(two[0] - found[0]).max() > 1e-3
