"""TFMA on the ranking signature: how well its scores separate positives from negatives, by slice.

The stock Evaluator component runs this module: it gets `eval_config`, and the name of this module
as `module_path`, for `custom_extractors`.

Ranking scores are not probabilities, but TFMA's metrics require them: its AUC counts at thresholds
from 0 to 1, its calibration divides the mean prediction by the mean label. So every score has two
transformations, from all rows together:

    order        its rank among all scores, (0, 1]; AUC and AUC-PR depend on the order only
    probability  a sigmoid of the score, fitted to the labels of all rows (Platt scaling)

Over all rows the calibration is therefore 1 by construction. It is informative on slices: 1.2 there
means that the scores predict 1.2 times as many positives as there are.
"""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Iterable, Mapping
from typing import Any, Literal

import apache_beam as beam
import numpy as np
import tensorflow_model_analysis as tfma
from google.protobuf import text_format
from scipy import optimize
from scipy.special import expit
from tensorflow_model_analysis.extractors import extractor

from tfrec_meta.data.feedback import WEIGHT
from tfrec_meta.export import signatures as names
from tfrec_meta.features import transform
from tfrec_meta.pipeline.config import FEEDBACK, EvaluatorConfig
from tfrec_meta.pipeline.config_values import as_json, from_json
from tfrec_meta.pipeline.request_rows import as_request, read_types

MODULE = "tfrec_meta.pipeline.components.evaluator"  # `module_path` of the stock Evaluator
SPLITS = ["test"]  # `example_splits` of the stock Evaluator
ORDER, PROBABILITY = "order", "probability"

_MAX_SCORES = 1 << 17  # for the fit; more are thinned to evenly spaced ones


@dataclasses.dataclass(frozen=True)
class _Derived:
    """The settings of the features that this module adds to TFMA's.

    An extractor receives only the EvalConfig, so they are in its `label_key`, as JSON.

    Attributes:
        positive: which events are positive; see `EvaluatorConfig`.
        new_user_events: the most earlier events of a new user.
    """

    positive: float | Literal["feedback"]
    new_user_events: int

    @classmethod
    def of(cls, config: tfma.EvalConfig) -> _Derived:
        """Returns the settings of an EvalConfig.

        Raises:
            ValueError: if it is not one of `eval_config`.
        """
        label = config.model_specs[0].label_key
        try:
            return from_json(cls, label)
        except ValueError as error:
            raise ValueError(
                f"`label_key`={label!r}; create the EvalConfig with `eval_config`."
            ) from error

    @property
    def new_user(self) -> str:
        """The feature that divides the events; its values are "yes" and "no"."""
        return f"new user (at most {self.new_user_events} events)"

    def is_positive(self, features: Mapping[str, Any]) -> np.ndarray:
        """Returns bool [rows]."""
        if self.positive == FEEDBACK:
            return _numbers(features[WEIGHT]) > 0
        return _numbers(features[transform.VALUE]) >= self.positive


def _numbers(column: Any) -> np.ndarray:
    """Returns float64 [rows]; with a schema, columns may be sparse, with one value per event."""
    return np.asarray(getattr(column, "values", column), np.float64).reshape(-1)


def eval_config(config: EvaluatorConfig) -> tfma.EvalConfig:
    """Returns TFMA's configuration: AUC, AUC-PR, calibration and counts.

    They are computed for all events, for new and other users, and for the values of each of
    `config.slices`. Whether a user is new depends on the history, the events before the event.

    Raises:
        ValueError: if `config.positive` is not set.
    """
    if config.positive is None:
        raise ValueError(
            "`positive` is not set; TFMA needs the smallest value of a positive event. Set it."
        )
    derived = _Derived(config.positive, config.new_user_events)
    slices = "".join(
        f"slicing_specs {{ feature_keys: {_quoted(key)} }}\n"
        for key in (derived.new_user, *config.slices)
    )
    return text_format.Parse(
        f"""
        model_specs {{
          signature_name: "{names.RANK_EXAMPLES}"
          label_key: {_quoted(as_json(derived))}
          model_type: "tf_generic"
        }}
        slicing_specs {{ }}
        {slices}
        metrics_specs {{
          output_names: "{ORDER}"
          metrics {{ class_name: "AUC" config: '{{"num_thresholds": 1000}}' }}
          metrics {{ class_name: "AUCPrecisionRecall" config: '{{"num_thresholds": 1000}}' }}
        }}
        metrics_specs {{
          output_names: "{PROBABILITY}"
          metrics {{ class_name: "Calibration" }}
          metrics {{ class_name: "MeanPrediction" }}
          metrics {{ class_name: "MeanLabel" }}
          metrics {{ class_name: "ExampleCount" }}
        }}
        options {{ include_default_metrics {{ value: false }} }}
        """,
        tfma.EvalConfig(),
    )


def read_metrics(folder: str) -> dict[str, dict[str, float]]:
    """Returns TFMA's results: slice -> metric -> value.

    Args:
        folder: the folder of a ModelEvaluation artifact.

    Returns:
        Slices named "" (all events) and "<column>=<value>"; metrics "auc", "auc_precision_recall",
        "calibration", "mean_prediction", "mean_label", "example_count". NaN if a metric is
        undefined, such as the AUC without negatives.
    """
    found: dict[str, dict[str, float]] = {}
    for keys, metrics in tfma.load_eval_result(folder).slicing_metrics:
        slice_name = ", ".join(f"{key}={value}" for key, value in keys)
        values = found.setdefault(slice_name, {})
        for output in metrics.values():
            for per_class in output.values():
                for name, value in per_class.items():
                    values[name] = float(value.get("doubleValue", "nan"))
    return found


def custom_extractors(
    eval_shared_model: Any, eval_config: tfma.EvalConfig, tensor_adapter_config: Any
) -> list[extractor.Extractor]:
    """Returns TFMA's extractors with this module's; the stock Evaluator calls it."""
    stock = tfma.default_extractors(
        eval_shared_model=eval_shared_model,
        eval_config=eval_config,
        tensor_adapter_config=tensor_adapter_config,
    )
    stages = [each.stage_name for each in stock]
    after_features = stages.index("ExtractFeatures") + 1
    after_predictions = stages.index("ExtractPredictions") + 1
    return [
        *stock[:after_features],
        extractor.Extractor("DeriveFeatures", _DeriveFeatures(eval_config)),
        extractor.Extractor("MakeRequests", _MakeRequests(_model_path(eval_shared_model))),
        *stock[after_features:after_predictions],
        extractor.Extractor("TransformScores", _TransformScores()),
        *stock[after_predictions:],
    ]


def _quoted(text: str) -> str:
    return '"' + text_format.text_encoding.CEscape(text.encode(), as_utf8=True) + '"'


@beam.ptransform_fn
def _DeriveFeatures(extracts: beam.PCollection, config: tfma.EvalConfig) -> beam.PCollection:
    """Adds the label, and the slice of new users, to the features."""
    return extracts | beam.Map(_with_derived, config.model_specs[0].label_key, _Derived.of(config))


def _with_derived(extracts: Mapping[str, Any], label: str, derived: _Derived) -> dict[str, Any]:
    result = dict(extracts)
    features = result[tfma.FEATURES_KEY] = dict(extracts[tfma.FEATURES_KEY])
    is_positive = derived.is_positive(features)
    features[label] = is_positive.astype(np.float32)[:, None]
    lengths = _lengths(features.get(transform.HISTORY), len(is_positive))
    is_new = np.where(lengths <= derived.new_user_events, b"yes", b"no")
    features[derived.new_user] = is_new.astype(object)[:, None]
    return result


def _model_path(eval_shared_model: Any) -> str:
    models = eval_shared_model if isinstance(eval_shared_model, list) else [eval_shared_model]
    return models[0].model_path


@beam.ptransform_fn
def _MakeRequests(extracts: beam.PCollection, model: str) -> beam.PCollection:
    """Converts the rows to the types that the signature reads."""
    return extracts | beam.Map(_with_requests, read_types(model))


def _with_requests(extracts: Mapping[str, Any], reads: Mapping[str, Any]) -> dict[str, Any]:
    rows = np.asarray(extracts[tfma.INPUT_KEY]).reshape(-1)
    requests = np.empty(len(rows), object)
    requests[:] = [as_request(row, reads) for row in rows]
    return {**extracts, tfma.INPUT_KEY: requests}


def _lengths(history: Any, rows: int) -> np.ndarray:
    """Returns the history length of each row; TFMA has no column if no row has a history."""
    if history is None:
        return np.zeros(rows, np.int64)
    if hasattr(history, "nested_row_splits"):
        return np.diff(np.asarray(history.nested_row_splits[0]))
    if hasattr(history, "dense_shape"):  # sparse
        return np.bincount(np.asarray(history.indices)[:, 0], minlength=rows)
    return np.array([np.size(row) for row in history])


@beam.ptransform_fn
def _TransformScores(extracts: beam.PCollection) -> beam.PCollection:
    """Replaces scores by their two transformations, from all rows together."""
    fit = extracts | beam.Map(_scores_and_labels) | beam.CombineGlobally(_Fit())
    return extracts | "Transform" >> beam.Map(_transformed, beam.pvalue.AsSingleton(fit))


def _scores_and_labels(extracts: Mapping[str, Any]) -> np.ndarray:
    """Returns float64 [rows, 2]."""
    scores = _scores(extracts)
    labels = np.asarray(extracts[tfma.LABELS_KEY], np.float64).reshape(-1)
    return np.stack([scores, labels], axis=1)


def _scores(extracts: Mapping[str, Any]) -> np.ndarray:
    """Returns float64 [rows]; models of ratings or clicks have further outputs, by name."""
    predictions = extracts[tfma.PREDICTIONS_KEY]
    if isinstance(predictions, Mapping):
        predictions = predictions[names.SCORE]
    return np.asarray(predictions, np.float64).reshape(-1)


class _Fit(beam.CombineFn):
    """Collects scores and labels, thins out large numbers evenly, and fits the transformations."""

    def create_accumulator(self) -> list[np.ndarray]:
        return []

    def add_input(self, accumulator: list[np.ndarray], pairs: np.ndarray) -> list[np.ndarray]:
        return _thinned([*accumulator, pairs])

    def merge_accumulators(self, accumulators: Iterable[list[np.ndarray]]) -> list[np.ndarray]:
        return _thinned([pairs for accumulator in accumulators for pairs in accumulator])

    def extract_output(self, accumulator: list[np.ndarray]) -> dict[str, Any]:
        pairs = np.concatenate([*accumulator, np.empty((0, 2))])
        scores, labels = pairs[np.isfinite(pairs[:, 0])].T
        return {"sorted": np.sort(scores), "sigmoid": fitted_sigmoid(scores, labels)}


def _thinned(parts: list[np.ndarray]) -> list[np.ndarray]:
    if sum(map(len, parts)) <= _MAX_SCORES:
        return parts
    pairs = np.concatenate(parts)
    return [pairs[np.lexsort((pairs[:, 1], pairs[:, 0]))][::2]]


def _transformed(extracts: Mapping[str, Any], fit: Mapping[str, Any]) -> dict[str, Any]:
    result = copy.copy(dict(extracts))
    scores = _scores(extracts)
    slope, offset = fit["sigmoid"]
    order = np.searchsorted(fit["sorted"], scores, side="right") / len(fit["sorted"])
    result[tfma.PREDICTIONS_KEY] = {
        ORDER: order[:, None],
        PROBABILITY: expit(slope * scores + offset)[:, None],
    }
    return result


def fitted_sigmoid(scores: np.ndarray, labels: np.ndarray) -> tuple[float, float]:
    """Returns the maximum-likelihood slope and offset of sigmoid(slope * score + offset).

    Args:
        scores: float64 [n], finite.
        labels: float64 [n], 0 or 1.

    Returns:
        (slope, offset); the slope is 0 if all labels are equal.

    References:
        Platt, "Probabilistic Outputs for Support Vector Machines", 1999.
    """
    positives = float(labels.sum())
    # Platt's targets: one more of each label, so that equal labels give a finite offset.
    prior = np.log((positives + 1) / (len(labels) - positives + 1))
    if not 0 < positives < len(labels) or np.ptp(scores) == 0:
        return 0.0, float(prior)
    centre, scale = scores.mean(), scores.std()
    standard = (scores - centre) / scale

    def loss(weights: np.ndarray) -> tuple[float, np.ndarray]:
        logits = weights[0] * standard + weights[1]
        error = expit(logits) - labels
        likelihood = np.logaddexp(0, logits) - labels * logits
        gradient = np.array([(error * standard).mean(), error.mean()])
        return float(likelihood.mean()), gradient

    # Bounded: scores that separate the labels perfectly have no finite best slope.
    found = optimize.minimize(
        loss, [0.0, prior], jac=True, bounds=[(-50, 50), (None, None)], method="L-BFGS-B"
    )
    slope, offset = found.x
    return float(slope / scale), float(offset - slope * centre / scale)
