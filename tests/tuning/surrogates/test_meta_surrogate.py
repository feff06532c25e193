"""Scores and affinities worked by hand, what is learned of studies, and what is kept of that."""

import dataclasses

import numpy as np
import pytest
from scipy.stats import norm

from tests.tuning.study_toys import failed, study, trial
from tests.tuning.surrogate_toys import earlier, objective, space
from tfrec_meta.tuning.studies.store import StudyRecord
from tfrec_meta.tuning.surrogates.encoding import SpaceEncoding
from tfrec_meta.tuning.surrogates.meta_surrogate import (
    EarlierStudy,
    MetaSurrogate,
    affinities,
    normal_scores,
)


@pytest.fixture(scope="module")
def encoding():
    return SpaceEncoding(space())


@pytest.fixture(scope="module")
def studies():
    shuffled = earlier("shuffled", 2, count=1500, shuffle=True)
    return [earlier("good", 1), shuffled, earlier("other", 3)]


@pytest.fixture(scope="module")
def surrogate(studies, encoding):
    """Trained once, which takes seconds."""
    return MetaSurrogate.train(studies, encoding, seed=0)


def point(x, **more):
    return {"x": x, "rate": 0.1, "family": "flat", **more}


def record(*trials, **fields):
    header = {name: value for name, value in study(**fields).items() if name != "kind"}
    return StudyRecord(**header, trials=trials)


def valued(trial_id, value, x, **fields):
    return trial(trial_id, values=point(x), value=value, **fields)


# Scores.


def test_normal_scores_by_hand():
    # Ranks 1, 2.5, 2.5 and 4 of 4: the quantiles of 1/8, 1/2, 1/2 and 7/8.
    found = normal_scores(np.array([-5.0, 0.1, 0.1, 1e9]))
    np.testing.assert_allclose(found, [norm.ppf(1 / 8), 0.0, 0.0, norm.ppf(7 / 8)], atol=1e-12)
    assert normal_scores(np.zeros(3)).tolist() == [0.0, 0.0, 0.0]
    assert normal_scores(np.zeros(0)).shape == (0,)


def test_trials_become_points_with_scores(encoding):
    values = [0.3, 0.1, 0.4, 0.2]
    trials = [valued(str(n), value, n / 4) for n, value in enumerate(values)]
    read = EarlierStudy.read(record(*trials, profile={"a": 1.0}), encoding)
    assert [encoding.values(row)["x"] for row in read.codes] == pytest.approx([0, 0.25, 0.5, 0.75])
    np.testing.assert_allclose(read.scores, norm.ppf([5 / 8, 1 / 8, 7 / 8, 3 / 8]))
    assert (read.name, read.profile, read.text_embedding) == ("one", {"a": 1.0}, None)


def test_errors_are_scored_the_other_way_round(encoding):
    trials = [valued(str(n), float(n), n / 4) for n in range(4)]
    read = EarlierStudy.read(record(*trials, direction="min"), encoding)
    assert np.argsort(-read.scores).tolist() == [0, 1, 2, 3]


@pytest.mark.parametrize("direction", ["max", "min"])
def test_trials_that_failed_rank_lowest(encoding, direction):
    trials = [valued(str(n), float(n), n / 9) for n in range(4)]
    trials += [failed("8", values=point(0.8)), failed("9", values=point(0.9))]
    read = EarlierStudy.read(record(*trials, direction=direction), encoding)
    np.testing.assert_allclose(read.scores[4:], norm.ppf(1 / 6))
    assert read.scores[:4].min() > read.scores[4]


def test_of_trials_at_one_point_the_largest_budget_counts(encoding):
    trials = [valued(str(n), float(n), n / 9) for n in range(4)]
    trials += [valued("8", 9.0, 0.0, budget=8), valued("9", -9.0, 0.0, budget=1)]
    read = EarlierStudy.read(record(*trials), encoding)
    assert len(read.codes) == 4
    assert read.scores.argmax() == 0


def test_of_equal_budgets_the_last_counts(encoding):
    trials = [valued(str(n), float(n), n / 9) for n in range(4)]
    read = EarlierStudy.read(record(*trials, valued("9", 9.0, 0.0)), encoding)
    assert read.scores.argmax() == 0


def test_study_with_few_trials_in_the_space_is_none(encoding):
    trials = [valued(str(n), float(n), n / 9) for n in range(3)]
    outside = trial("9", values=point(0.5, family="unknown"))
    assert EarlierStudy.read(record(*trials, outside), encoding) is None
    assert EarlierStudy.read(record(), encoding) is None


# What is learned.


def test_study_that_can_not_be_foreseen_is_left_out(surrogate):
    assert [known.name for known in surrogate.studies] == ["good", "other"]


def test_points_that_were_never_tried_are_foreseen(surrogate, encoding):
    codes = encoding.sample(300, np.random.default_rng(9))
    truth = [objective(encoding.values(row)) for row in codes]
    predicted = surrogate.predict(encoding.features(codes))
    assert predicted.shape == (300, 2)
    for column in predicted.T:
        assert np.corrcoef(column, truth)[0, 1] > 0.8


def test_what_a_study_tried_is_known(surrogate, encoding):
    codes = np.concatenate([surrogate.studies[1].codes[:3], encoding.default()[None]])
    features = encoding.features(codes)
    found, predicted = surrogate.known_or_predicted(codes, features), surrogate.predict(features)
    np.testing.assert_array_equal(found[:3, 1], surrogate.studies[1].scores[:3])
    np.testing.assert_array_equal(found[:, 0], predicted[:, 0])
    np.testing.assert_array_equal(found[3], predicted[3])


def test_best_points_are_those_of_every_study(surrogate):
    found = surrogate.best_points(2)
    for place, known in enumerate(surrogate.studies):
        best = known.codes[np.argsort(-known.scores)[:2]]
        np.testing.assert_array_equal(found[2 * place : 2 * place + 2], best)


def test_nothing_to_learn_from_is_none(encoding):
    assert MetaSurrogate.train([], encoding) is None
    nonsense = [earlier("shuffled", 2, shuffle=True)]
    assert MetaSurrogate.train(nonsense, encoding) is None


# What is kept.


@pytest.fixture
def trainings(surrogate, monkeypatch):
    """What was trained by, without the time that it takes."""
    calls = []
    monkeypatch.setattr(MetaSurrogate, "train", lambda *by: calls.append(by) or surrogate)
    return calls


def test_trained_surrogate_is_kept_and_read_again(
    studies, surrogate, encoding, tmp_path, trainings
):
    folder = tmp_path / "surrogates"
    assert MetaSurrogate.kept_or_trained(studies, encoding, folder, seed=7) is surrogate
    assert trainings == [(studies, encoding, 7)]
    kept = MetaSurrogate.kept_or_trained(studies, encoding, folder, seed=7)
    assert len(trainings) == 1
    features = encoding.features(encoding.sample(5, np.random.default_rng(0)))
    np.testing.assert_array_equal(kept.predict(features), surrogate.predict(features))
    assert [known.name for known in kept.studies] == ["good", "other"]


def test_other_studies_or_another_seed_are_another_training(studies, encoding, tmp_path, trainings):
    changed = dataclasses.replace(studies[0], scores=-studies[0].scores)
    for other in (studies, studies[:2], [changed, *studies[1:]]):
        MetaSurrogate.kept_or_trained(other, encoding, tmp_path)
    MetaSurrogate.kept_or_trained(studies, encoding, tmp_path, seed=1)
    assert len(trainings) == 4


@pytest.mark.parametrize(
    "damage",
    [
        lambda whole: b"",
        lambda whole: b"nonsense",
        lambda whole: whole[: len(whole) // 2],
        lambda whole: b"\x93NUMPY" + whole[:50],
        lambda whole: whole.replace(b"studies.npy", b"studios.npy"),
    ],
)
def test_damaged_file_is_one_that_is_not_there(damage, studies, encoding, tmp_path, trainings):
    MetaSurrogate.kept_or_trained(studies, encoding, tmp_path)
    (path,) = tmp_path.iterdir()
    whole = path.read_bytes()
    path.write_bytes(damage(whole))
    MetaSurrogate.kept_or_trained(studies, encoding, tmp_path)
    assert len(trainings) == 2
    assert path.read_bytes() == whole
    assert list(tmp_path.iterdir()) == [path]


def test_that_nothing_was_learned_is_kept_too(studies, encoding, tmp_path, monkeypatch):
    calls = []
    monkeypatch.setattr(MetaSurrogate, "train", lambda *arguments: calls.append(arguments))
    assert MetaSurrogate.kept_or_trained(studies, encoding, tmp_path) is None
    assert MetaSurrogate.kept_or_trained(studies, encoding, tmp_path) is None
    assert len(calls) == 1


def test_without_a_folder_nothing_is_kept(studies, encoding, monkeypatch):
    monkeypatch.setattr(MetaSurrogate, "train", lambda *arguments: "trained")
    assert MetaSurrogate.kept_or_trained(studies, encoding, None) == "trained"


def test_without_studies_nothing_is_kept(encoding, tmp_path):
    assert MetaSurrogate.kept_or_trained([], encoding, tmp_path / "new") is None
    assert not (tmp_path / "new").exists()


# Affinities.


def knows(*about):
    made = [EarlierStudy(str(n), np.zeros((1, 1)), np.zeros(1), *a) for n, a in enumerate(about)]
    return MetaSurrogate(made, [])


def test_all_are_alike_if_nothing_is_known_of_the_data():
    assert affinities(knows((None,), (None,))).tolist() == [0.5, 0.5]
    assert affinities(knows(({"a": 1.0},), ({"a": 2.0},)), {}).tolist() == [0.5, 0.5]


def test_affinities_by_hand():
    # Standardised, the profiles are -1 and 1, the only distance is 2, and the new one is at -1.
    found = affinities(knows(({"a": 3.0},), ({"a": 5.0},)), {"a": 3.0})
    near = np.exp(-0.5 * np.array([0.0, 1.0]))
    np.testing.assert_allclose(found, near / near.sum(), atol=1e-6)


def test_text_embeddings_by_hand():
    found = affinities(
        knows((None, [0.0, 0.0]), (None, [2.0, 0.0]), (None, [0.0, 0.0, 1.0])),
        text_embedding=[0.0, 2.0],
    )
    # The width is 2; of the third, whose texts were read by another model, the median is taken.
    near = np.exp(-0.5 * np.array([1.0, 2.0]))
    expected = np.append(near, np.median(near))
    np.testing.assert_allclose(found, expected / expected.sum(), atol=1e-6)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_what_is_not_known_of_the_new_data_counts_for_nothing(value):
    found = affinities(knows(({"a": 3.0, "b": 0.0},), ({"a": 5.0, "b": 9.0},)), {"b": value})
    assert found.tolist() == [0.5, 0.5]


def test_one_profile_alone_says_nothing():
    assert affinities(knows(({"a": 3.0},), (None,)), {"a": 3.0}).tolist() == [0.5, 0.5]


def test_no_study_is_ruled_out():
    found = affinities(knows(({"a": 0.0},), ({"a": 1e-9},), ({"a": 1e9},)), {"a": 0.0})
    assert found.min() > 0
    assert found.sum() == pytest.approx(1)
