"""TFMA on the ranking signature, and the transformations of scores."""

from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_model_analysis as tfma
from scipy.special import expit

from tests.pipeline import gate_toys
from tfrec_meta.pipeline.components import evaluator
from tfrec_meta.pipeline.config import EvaluatorConfig
from tfrec_meta.pipeline.request_rows import as_request, read_types


@pytest.fixture(scope="module")
def scored(taste_histories, good_model):
    """Returns the features of test rows, their scores by the exported model, and the labels."""
    folder = Path(taste_histories["examples"].uri, "Split-test")
    paths = sorted(str(path) for path in folder.iterdir())
    rows = list(tf.data.TFRecordDataset(paths, "GZIP").as_numpy_iterator())
    saved_model = Path(good_model.uri) / "Format-Serving"
    requests = [as_request(row, read_types(saved_model)) for row in rows]
    served = tf.saved_model.load(str(saved_model))
    scores = served.signatures["rank_examples"](examples=tf.constant(requests))["score"].numpy()
    features = [tf.train.Example.FromString(row).features.feature for row in rows]
    positive = np.array([f["value"].float_list.value[0] >= 4 for f in features])
    return features, scores, positive


def test_tfmas_auc_is_the_probability_that_a_positive_scores_higher(evaluation, scored):
    _, scores, positive = scored
    pairs = scores[positive][:, None] - scores[~positive][None, :]
    expected = np.mean((pairs > 0) + 0.5 * (pairs == 0))
    found = evaluator.read_metrics(evaluation.uri)[""]
    assert found["auc"] == pytest.approx(expected, abs=0.002)
    assert found["example_count"] == gate_toys.USERS
    assert found["mean_label"] == pytest.approx(positive.mean())
    assert 0 < found["auc_precision_recall"] < 1


def test_evaluates_the_score_of_a_model_with_further_outputs():
    labels = {tfma.LABELS_KEY: np.array([1.0])}
    alone = {tfma.PREDICTIONS_KEY: np.array([0.5]), **labels}
    named = {tfma.PREDICTIONS_KEY: {"score": [0.5], "score_rating": [4.0]}, **labels}
    for extracts in (alone, named):
        np.testing.assert_array_equal(evaluator._scores_and_labels(extracts), [[0.5, 1.0]])


def test_calibration_is_that_of_a_sigmoid_fitted_to_all_events(evaluation, scored):
    features, scores, positive = scored
    found = evaluator.read_metrics(evaluation.uri)
    assert found[""]["calibration"] == pytest.approx(1, abs=1e-3)
    slope, offset = evaluator.fitted_sigmoid(scores.astype(float), positive.astype(float))
    probability = expit(slope * scores + offset)
    tastes = np.array([f["taste"].bytes_list.value[0].decode() for f in features])
    for taste in set(tastes):
        mask = tastes == taste
        expected = probability[mask].mean() / positive[mask].mean()
        assert found[f"taste={taste}"]["calibration"] == pytest.approx(expected, rel=1e-3)


def test_slices_by_whether_the_user_was_new_at_the_event(evaluation):
    found = evaluator.read_metrics(evaluation.uri)
    counts = {name: values["example_count"] for name, values in found.items() if "new" in name}
    # New users have 3 events before their last one, which is more than 2.
    assert counts == {"new user (at most 2 events)=no": 160.0}


@pytest.mark.parametrize(
    "positive, column, cells, labels",
    [
        (4.0, "value", [3.9, 4.0, 5.0], [0, 1, 1]),
        ("feedback", "weight", [-1.0, 0.0, 0.5], [0, 0, 1]),
    ],
)
def test_labels_are_the_positive_events(positive, column, cells, labels):
    config = evaluator.eval_config(EvaluatorConfig(positive=positive))
    settings = evaluator._Derived.of(config)
    extracts = {tfma.FEATURES_KEY: {column: np.array(cells)}}
    derived = evaluator._with_derived(extracts, "label", settings)[tfma.FEATURES_KEY]
    assert derived["label"].ravel().tolist() == labels


def test_the_settings_of_the_derived_features_are_in_the_eval_config():
    config = evaluator.eval_config(EvaluatorConfig(positive=3.5, new_user_events=4))
    settings = evaluator._Derived.of(config)
    assert (settings.positive, settings.new_user_events) == (3.5, 4)
    assert config.slicing_specs[1].feature_keys == ["new user (at most 4 events)"]


@pytest.mark.parametrize("label", ["value >= 4", "{}", '{"positive": 1}', "[]", "1"])
def test_refuses_an_eval_config_of_another_origin(label):
    config = tfma.EvalConfig(model_specs=[tfma.ModelSpec(label_key=label)])
    with pytest.raises(ValueError, match="create the EvalConfig with `eval_config`"):
        evaluator._Derived.of(config)


def test_an_eval_config_requires_positive():
    with pytest.raises(ValueError, match="`positive` is not set"):
        evaluator.eval_config(EvaluatorConfig())


def test_recovers_the_sigmoid_that_generated_the_labels():
    rng = np.random.default_rng(0)
    scores = rng.normal(10, 5, 50_000)
    labels = (rng.random(50_000) < expit(0.5 * scores - 4)).astype(float)
    assert evaluator.fitted_sigmoid(scores, labels) == pytest.approx((0.5, -4), rel=0.05)


@pytest.mark.parametrize("labels", [[0.0, 0.0], [1.0, 1.0]])
def test_equal_labels_give_a_flat_sigmoid(labels):
    slope, offset = evaluator.fitted_sigmoid(np.array([1.0, 2.0]), np.array(labels))
    assert slope == 0
    assert np.isfinite(offset)


def test_thins_out_many_scores_evenly(monkeypatch):
    monkeypatch.setattr(evaluator, "_MAX_SCORES", 100)
    fit, pairs = evaluator._Fit(), np.stack([np.arange(90.0), np.arange(90) % 2], axis=1)
    state = fit.create_accumulator()
    for part in np.split(pairs, 3):
        state = fit.add_input(state, part)
    state = fit.merge_accumulators([state, [pairs]])
    reading = fit.extract_output(state)
    assert len(reading["sorted"]) == 90
    assert np.median(reading["sorted"]) == pytest.approx(44.5, abs=1)
