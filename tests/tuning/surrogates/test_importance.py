"""Importance and partial dependence of functions whose shares are worked by hand."""

import numpy as np
import pytest

from tests.tuning.study_samples import NEURAL, SPACE, hp, surrogate
from tfrec_meta.tuning.surrogates.importance import importance, partial_dependence, random_points

ADDITIVE = [
    hp("Boolean", "big"),
    hp("Choice", "kind", values=["a", "b", "c"]),
    hp("Float", "rate", min_value=0.001, max_value=1.0, sampling="log"),
    hp("Float", "unused", min_value=0.0, max_value=1.0),
    hp("Fixed", "fixed", value=3),
]


def additive(points):
    # Variances: 4 * 1/4 = 1; of 0, 1, 2: 2/3; of 4u with u uniform on [0, 1]: 16/12 = 4/3.
    mean = [
        2 * point["big"] + "abc".index(point["kind"]) + 4 * (np.log10(point["rate"]) + 3) / 3
        for point in points
    ]
    return mean, np.full(len(points), 0.1)


def test_shares_of_an_additive_function_are_its_variances():
    shares = importance(additive, ADDITIVE)
    assert list(shares) == ["rate", "big", "kind", "unused"]  # of 1 + 2/3 + 4/3 = 3
    assert shares["big"] == pytest.approx(1 / 3, abs=0.01)
    assert shares["kind"] == pytest.approx(2 / 9, abs=0.01)
    # 16 bins of a straight line lose 1/256 of its variance.
    assert shares["rate"] == pytest.approx(4 / 9 * 255 / 256, abs=0.01)
    assert shares["unused"] < 0.01


def test_a_pure_interaction_has_no_share():
    space = [hp("Boolean", "one"), hp("Boolean", "other")]

    def differ(points):
        return [float(p["one"] != p["other"]) for p in points], np.zeros(len(points))

    assert max(importance(differ, space).values()) < 0.02


def test_a_conditional_hyperparameter_counts_only_where_it_is_active():
    space = [
        hp("Choice", "family", values=["two_tower", "other"]),
        hp("Boolean", "deep", NEURAL),
    ]

    def deep_is_better(points):  # half of the points have `deep`, with a variance of 1 * 1/4
        return [point.get("deep", 0.5) + 0.0 for point in points], np.zeros(len(points))

    shares = importance(deep_is_better, space)
    assert shares["deep"] == pytest.approx(1.0, abs=0.01)
    assert shares["family"] < 0.02


def test_a_constant_objective_has_no_important_hyperparameter():
    shares = importance(lambda points: ([0.3] * len(points), [0.0] * len(points)), ADDITIVE)
    assert set(shares.values()) == {0.0}


def test_the_same_seed_gives_the_same_points():
    assert random_points(SPACE, 20, seed=1) == random_points(SPACE, 20, seed=1)
    assert random_points(SPACE, 20, seed=1) != random_points(SPACE, 20, seed=2)
    points = random_points(SPACE, 100)
    assert sum(point["family"] == "ials" for point in points) == 50  # evenly spread
    for point in points:
        assert ("two_tower/loss" in point) == (point["family"] == "two_tower")
        assert ("two_tower/label_smoothing" in point) == (point.get("two_tower/loss") == "softmax")


def test_partial_dependence_recovers_an_additive_term():
    found = partial_dependence(additive, ADDITIVE, "kind")
    assert [point.value for point in found] == ["a", "b", "c"]
    assert found[1].mean - found[0].mean == pytest.approx(1)
    assert found[2].mean - found[0].mean == pytest.approx(2)
    assert found[0].std == pytest.approx(0.1)
    # The rest: 2 * 1/2 on average, and 4 * 1/2.
    assert found[0].mean == pytest.approx(3.0, abs=0.05)


def test_partial_dependence_covers_a_range_on_its_own_scale():
    found = partial_dependence(additive, ADDITIVE, "rate")
    assert len(found) == 11
    values = [point.value for point in found]
    np.testing.assert_allclose(values, np.logspace(-3, 0, 11))
    np.testing.assert_allclose(np.diff([point.mean for point in found]), 0.4)


def test_partial_dependence_averages_only_points_where_it_applies():
    seen = []

    def watched(points):
        seen.extend(points)
        return surrogate(points)

    found = partial_dependence(watched, SPACE, "two_tower/label_smoothing")
    assert found[0].mean > found[-1].mean
    assert {point["two_tower/loss"] for point in seen} == {"softmax"}
    assert {point["family"] for point in seen} == {"two_tower"}
    assert not any("ials/iterations" in point for point in seen)


def test_an_unknown_name_is_refused_with_the_known_names():
    with pytest.raises(
        ValueError, match=r"`name`='depth'.*use one of big, kind, rate, unused, fixed"
    ):
        partial_dependence(additive, ADDITIVE, "depth")


@pytest.mark.parametrize(
    "answer",
    [([0.1], [0.1]), ([np.nan] * 512, [0.1] * 512), (np.zeros((512, 1)), np.zeros(512))],
    ids=["too few", "not a number", "another shape"],
)
def test_an_invalid_surrogate_is_refused(answer):
    with pytest.raises(ValueError, match="one finite number for each point"):
        importance(lambda points: answer, ADDITIVE)


def test_the_space_is_not_changed():
    before = repr(SPACE)
    importance(surrogate, SPACE, samples=16)
    assert repr(SPACE) == before


def test_a_fixed_space_has_no_shares():
    assert importance(additive_of_nothing, [hp("Fixed", "fixed", value=3)]) == {}


def additive_of_nothing(points):
    return np.arange(len(points), dtype=float), np.zeros(len(points))


def test_the_one_relevant_of_thirty_hyperparameters_ranks_first():
    space = [hp("Float", f"p{n}", min_value=0.0, max_value=1.0) for n in range(30)]

    def seventh(points):
        return [point["p7"] ** 2 for point in points], np.zeros(len(points))

    shares = importance(seventh, space)
    assert next(iter(shares)) == "p7"
    assert shares["p7"] > 0.9
    assert sum(shares.values()) <= 1.0 + 1e-9
