"""Normal scores worked by hand, training on prior studies, and saved networks."""

import dataclasses

import numpy as np
import pytest
from scipy.stats import norm

from tests.tuning.store_samples import failed, study, trial
from tests.tuning.surrogate_samples import objective, prior_study, space
from tfrec_meta.tuning.studies.records import StudyRecord
from tfrec_meta.tuning.surrogates import meta_surrogate
from tfrec_meta.tuning.surrogates.encoding import SpaceEncoding
from tfrec_meta.tuning.surrogates.meta_surrogate import (
    MetaSurrogate,
    PriorStudy,
    normal_scores,
)


@pytest.fixture(scope="module")
def encoding():
    return SpaceEncoding(space())


@pytest.fixture(scope="module")
def studies():
    shuffled = prior_study("shuffled", 2, count=1500, shuffle=True)
    return [prior_study("good", 1), shuffled, prior_study("other", 3)]


@pytest.fixture(scope="module", autouse=True)
def short_trainings():
    """A third of the steps; the toy needs no more."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(meta_surrogate, "_STEPS", 500)
        yield


@pytest.fixture(scope="module")
def surrogate(studies, encoding):
    """Trained once, because it takes seconds."""
    return MetaSurrogate.train(studies, encoding, seed=0)


def point(x, **more):
    return {"x": x, "rate": 0.1, "family": "flat", **more}


def record(*trials, **fields):
    header = {name: value for name, value in study(**fields).items() if name != "kind"}
    return StudyRecord(**header, trials=trials)


def valued(trial_id, value, x, **fields):
    return trial(trial_id, values=point(x), value=value, **fields)


# Scores.


def test_normal_scores_match_values_worked_by_hand():
    # Ranks 1, 2.5, 2.5 and 4 of 4: the quantiles of 1/8, 1/2, 1/2 and 7/8.
    found = normal_scores(np.array([-5.0, 0.1, 0.1, 1e9]))
    np.testing.assert_allclose(found, [norm.ppf(1 / 8), 0.0, 0.0, norm.ppf(7 / 8)], atol=1e-12)
    assert normal_scores(np.zeros(3)).tolist() == [0.0, 0.0, 0.0]
    assert normal_scores(np.zeros(0)).shape == (0,)


def test_trials_become_points_with_scores(encoding):
    values = [0.3, 0.1, 0.4, 0.2]
    trials = [valued(str(n), value, n / 4) for n, value in enumerate(values)]
    read = PriorStudy.read(record(*trials, profile={"a": 1.0}), encoding)
    assert [encoding.values(row)["x"] for row in read.codes] == pytest.approx([0, 0.25, 0.5, 0.75])
    np.testing.assert_allclose(read.scores, norm.ppf([5 / 8, 1 / 8, 7 / 8, 3 / 8]))
    assert (read.name, read.profile, read.text_embedding) == ("one", {"a": 1.0}, None)


def test_lower_errors_have_higher_scores(encoding):
    trials = [valued(str(n), float(n), n / 4) for n in range(4)]
    read = PriorStudy.read(record(*trials, direction="min"), encoding)
    assert np.argsort(-read.scores).tolist() == [0, 1, 2, 3]


@pytest.mark.parametrize("direction", ["max", "min"])
def test_failed_trials_rank_lowest(encoding, direction):
    trials = [valued(str(n), float(n), n / 9) for n in range(4)]
    trials += [failed("8", values=point(0.8)), failed("9", values=point(0.9))]
    read = PriorStudy.read(record(*trials, direction=direction), encoding)
    np.testing.assert_allclose(read.scores[4:], norm.ppf(1 / 6))
    assert read.scores[:4].min() > read.scores[4]


def test_the_largest_budget_of_a_point_counts(encoding):
    trials = [valued(str(n), float(n), n / 9) for n in range(4)]
    trials += [valued("8", 9.0, 0.0, budget=8), valued("9", -9.0, 0.0, budget=1)]
    read = PriorStudy.read(record(*trials), encoding)
    assert len(read.codes) == 4
    assert read.scores.argmax() == 0


def test_the_last_trial_of_equal_budgets_counts(encoding):
    trials = [valued(str(n), float(n), n / 9) for n in range(4)]
    read = PriorStudy.read(record(*trials, valued("9", 9.0, 0.0)), encoding)
    assert read.scores.argmax() == 0


def test_a_study_with_few_trials_in_the_space_is_not_read(encoding):
    trials = [valued(str(n), float(n), n / 9) for n in range(3)]
    outside = trial("9", values=point(0.5, family="unknown"))
    assert PriorStudy.read(record(*trials, outside), encoding) is None
    assert PriorStudy.read(record(), encoding) is None


# Training.


def test_an_unpredictable_study_is_left_out(surrogate):
    assert [known.name for known in surrogate.studies] == ["good", "other"]


@pytest.mark.slow
def test_studies_shuffled_alike_are_left_out(encoding, monkeypatch):
    # They agree on the points that both have tried, and predict nothing at other points.
    monkeypatch.setattr(meta_surrogate, "_STEPS", 1500)
    alike = [prior_study(name, 2, count=40, noise=0.0, shuffle=True) for name in ("one", "other")]
    assert (alike[0].scores == alike[1].scores).all()
    assert MetaSurrogate.train(alike, encoding) is None


def test_untried_points_are_predicted(surrogate, encoding):
    codes = encoding.sample(300, np.random.default_rng(9))
    truth = [objective(encoding.values(row)) for row in codes]
    predicted = surrogate.predict(encoding.features(codes))
    assert predicted.shape == (300, 2)
    for column in predicted.T:
        assert np.corrcoef(column, truth)[0, 1] > 0.8


def test_observed_scores_replace_predictions(surrogate, encoding):
    codes = np.concatenate([surrogate.studies[1].codes[:3], encoding.default()[None]])
    features = encoding.features(codes)
    found, predicted = surrogate.observed_or_predicted(codes, features), surrogate.predict(features)
    np.testing.assert_array_equal(found[:3, 1], surrogate.studies[1].scores[:3])
    np.testing.assert_array_equal(found[:, 0], predicted[:, 0])
    np.testing.assert_array_equal(found[3], predicted[3])


def test_best_points_come_from_every_study(surrogate):
    found = surrogate.best_points(2)
    for number, known in enumerate(surrogate.studies):
        best = known.codes[np.argsort(-known.scores)[:2]]
        np.testing.assert_array_equal(found[2 * number : 2 * number + 2], best)


def test_training_without_usable_studies_returns_none(encoding):
    assert MetaSurrogate.train([], encoding) is None
    nonsense = [prior_study("shuffled", 2, shuffle=True)]
    assert MetaSurrogate.train(nonsense, encoding) is None


# Saved networks.


@pytest.fixture
def trainings(surrogate, monkeypatch):
    """The arguments of trainings, which are replaced by the trained surrogate."""
    calls = []
    monkeypatch.setattr(MetaSurrogate, "train", lambda *given: calls.append(given) or surrogate)
    return calls


def test_a_trained_surrogate_is_saved_and_loaded(studies, surrogate, encoding, tmp_path, trainings):
    folder = tmp_path / "surrogates"
    assert MetaSurrogate.load_or_train(studies, encoding, folder, seed=7) is surrogate
    assert trainings == [(studies, encoding, 7)]
    loaded = MetaSurrogate.load_or_train(studies, encoding, folder, seed=7)
    assert len(trainings) == 1
    features = encoding.features(encoding.sample(5, np.random.default_rng(0)))
    np.testing.assert_array_equal(loaded.predict(features), surrogate.predict(features))
    assert [known.name for known in loaded.studies] == ["good", "other"]


def test_other_studies_or_another_seed_train_again(studies, encoding, tmp_path, trainings):
    changed = dataclasses.replace(studies[0], scores=-studies[0].scores)
    for other in (studies, studies[:2], [changed, *studies[1:]]):
        MetaSurrogate.load_or_train(other, encoding, tmp_path)
    MetaSurrogate.load_or_train(studies, encoding, tmp_path, seed=1)
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
def test_a_damaged_file_is_replaced(damage, studies, encoding, tmp_path, trainings):
    MetaSurrogate.load_or_train(studies, encoding, tmp_path)
    (path,) = tmp_path.iterdir()
    whole = path.read_bytes()
    path.write_bytes(damage(whole))
    MetaSurrogate.load_or_train(studies, encoding, tmp_path)
    assert len(trainings) == 2
    assert path.read_bytes() == whole
    assert list(tmp_path.iterdir()) == [path]


def test_an_unsuccessful_training_is_saved_too(studies, encoding, tmp_path, monkeypatch):
    calls = []
    monkeypatch.setattr(MetaSurrogate, "train", lambda *arguments: calls.append(arguments))
    assert MetaSurrogate.load_or_train(studies, encoding, tmp_path) is None
    assert MetaSurrogate.load_or_train(studies, encoding, tmp_path) is None
    assert len(calls) == 1


def test_without_a_folder_nothing_is_saved(studies, encoding, monkeypatch):
    monkeypatch.setattr(MetaSurrogate, "train", lambda *arguments: "trained")
    assert MetaSurrogate.load_or_train(studies, encoding, None) == "trained"


def test_without_studies_nothing_is_saved(encoding, tmp_path):
    assert MetaSurrogate.load_or_train([], encoding, tmp_path / "new") is None
    assert not (tmp_path / "new").exists()
