"""A network that predicts the score of a point in each prior study.

All studies share one embedding network, and each study has a linear head. A penalty keeps the heads
near their mean, so that a study with few trials has little influence of its own. The predictions
are inputs of the linear kernel of a Gaussian process over the new study (`mixed_surrogate`).

The objectives of different studies have different scales. So they are compared by rank only: within
each study, objectives are replaced by normal scores.

References:
    ABLR: "Scalable Hyperparameter Transfer Learning" (NeurIPS 2018).
    FSBO: "Few-Shot Bayesian Optimization with Deep Kernel Surrogates" (ICLR 2021).
"""

from __future__ import annotations

import dataclasses
import hashlib
import itertools
import json
import math
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import tensorflow as tf
from scipy.stats import norm, rankdata

from tfrec_meta.io.files import atomic_file
from tfrec_meta.io.logs import logger
from tfrec_meta.tuning.studies.records import StudyRecord
from tfrec_meta.tuning.surrogates.encoding import SpaceEncoding, point_key, point_keys

VERSION = 2  # of the saved network; raise it when the network, its studies or the scores change
_FEWEST_TRIALS = 4  # of a study that can be learned from
_MOST_ROWS = 4096  # of one study, in training
_BATCH, _STEPS = 512, 1500
_WIDTH, _EMBEDDING = 128, 32
_HEAD_PENALTY = 1e-2
_FOLDS, _SHRINKAGE, _LEAST_SKILL = 3, 20.0, 0.1
_NAMES = "studies"  # the array of study names in a saved file
_log = logger(__name__)


def normal_scores(values: np.ndarray) -> np.ndarray:
    """Replaces values by quantiles of the normal distribution.

    Returns:
        float64 [N], by rank; ties have their mean rank.
    """
    if not len(values):
        return np.zeros(0)
    return norm.ppf((rankdata(values) - 0.5) / len(values))


@dataclasses.dataclass(frozen=True)
class PriorStudy:
    """The trials of a prior study as points of the new study's search space.

    Attributes:
        name: the study's id.
        codes: float64 [N, P], distinct points.
        scores: float64 [N], normal scores, higher is better; failed points have the lowest.
        profile: of the study's data, by name.
        text_embedding: float [E] of the data's texts, or None.
    """

    name: str
    codes: np.ndarray
    scores: np.ndarray
    profile: Mapping[str, float] | None = None
    text_embedding: Sequence[float] | None = None

    @classmethod
    def read(cls, study: StudyRecord, encoding: SpaceEncoding) -> PriorStudy | None:
        """Reads a study from a store.

        If several trials have the same point, the one with the largest budget counts.

        Returns:
            None if fewer than four points lie in the space.
        """
        sign = 1.0 if study.direction == "max" else -1.0
        found: dict[bytes, tuple[int, np.ndarray, float]] = {}
        for trial in study.trials:
            codes = encoding.codes(trial["values"])
            if codes is None:
                continue
            value = -math.inf if trial["value"] is None else sign * trial["value"]
            before = found.get(point_key(codes))
            if before is None or before[0] <= trial["budget"]:
                found[point_key(codes)] = (trial["budget"], codes, value)
        if len(found) < _FEWEST_TRIALS:
            return None
        points = list(found.values())
        return cls(
            study.study_id,
            np.array([codes for _, codes, _ in points]),
            normal_scores(np.array([value for *_, value in points])),
            study.profile,
            study.text_embedding,
        )


class MetaSurrogate:
    """Predicts normal scores in prior studies.

    Args:
        studies: the prior studies, one for each head.
        weights: of the network; see `train`.
    """

    def __init__(self, studies: Sequence[PriorStudy], weights: Sequence[np.ndarray]):
        self.studies = tuple(studies)
        self._weights = [np.asarray(weight, np.float64) for weight in weights]
        self._observed = [
            dict(zip(point_keys(study.codes), study.scores, strict=True)) for study in self.studies
        ]

    @classmethod
    def train(
        cls, studies: Sequence[PriorStudy], encoding: SpaceEncoding, seed: int = 0
    ) -> MetaSurrogate | None:
        """Trains the network; this takes seconds on a CPU.

        A cross-validation in three folds of points comes first. A study whose held-out trials
        cannot be predicted is left out.

        Args:
            studies: any number of prior studies.
            encoding: of the space, by which the studies were read.
            seed: of the weights, and of the rows that are sampled from large studies.

        Returns:
            None if no study can be predicted.
        """
        if not studies:
            return None
        generator = np.random.default_rng(seed)
        rows = [_training_rows(study.scores, generator) for study in studies]
        features = [encoding.features(s.codes[r]) for s, r in zip(studies, rows, strict=True)]
        scores = [s.scores[r] for s, r in zip(studies, rows, strict=True)]
        skills = _skills(features, scores, generator)
        chosen = np.flatnonzero(skills >= _LEAST_SKILL).tolist()
        _log.info("Skill on held-out trials of each prior study: %s", skills.round(2))
        if not chosen:
            return None
        used = [features[i] for i in chosen], [scores[i] for i in chosen]
        weights = _fit(*used, generator, _STEPS)
        return cls([studies[i] for i in chosen], weights)

    def predict(self, features: np.ndarray) -> np.ndarray:
        """Predicts scores in each prior study.

        Args:
            features: float64 [N, D] of points.

        Returns:
            float64 [N, S].
        """
        *layers, heads, offsets = self._weights
        hidden = features
        for matrix, bias in zip(layers[::2], layers[1::2], strict=True):
            hidden = hidden @ matrix + bias
            hidden = hidden / (1.0 + np.exp(-np.clip(hidden, -60.0, 60.0)))
        return hidden @ heads + offsets

    def observed_or_predicted(self, codes: np.ndarray, features: np.ndarray) -> np.ndarray:
        """Returns float64 [N, S]: the observed score if a study tried the point, else `predict`."""
        found = self.predict(features)
        for row, point in enumerate(point_keys(codes)):
            for column, observed in enumerate(self._observed):
                if point in observed:
                    found[row, column] = observed[point]
        return found

    def best_points(self, each: int) -> np.ndarray:
        """Returns the codes of the `each` best points of every study, float64 [M, P]."""
        return np.concatenate(
            [s.codes[np.argsort(-s.scores, kind="stable")[:each]] for s in self.studies]
        )

    # Saved networks.

    def weights(self) -> dict[str, np.ndarray]:
        """Returns the network's weights by name, in the constructor's order."""
        return {f"weight_{number:02d}": weight for number, weight in enumerate(self._weights)}

    @classmethod
    def load_or_train(
        cls,
        studies: Sequence[PriorStudy],
        encoding: SpaceEncoding,
        folder: Path | None,
        seed: int = 0,
    ) -> MetaSurrogate | None:
        """Loads a network that was trained on exactly these studies, or trains and saves one.

        Args:
            studies: see `train`.
            encoding: see `train`.
            folder: of the saved networks; None saves nothing.
            seed: see `train`.
        """
        if folder is None or not studies:
            return cls.train(studies, encoding, seed)
        path = folder / f"{_digest(studies, encoding, seed)}.npz"
        try:
            with np.load(path, allow_pickle=False) as saved:
                names = saved[_NAMES].tolist()
                chosen = [study for study in studies if study.name in names]
                weights = [saved[name] for name in sorted(saved.files) if name != _NAMES]
                return cls(chosen, weights) if chosen else None
        except FileNotFoundError:
            pass
        except (OSError, EOFError, ValueError, KeyError, zipfile.BadZipFile) as error:
            _log.warning("%s cannot be read (%s); the surrogate is trained again.", path, error)
        trained = cls.train(studies, encoding, seed)
        arrays = {} if trained is None else trained.weights()
        names = [] if trained is None else [study.name for study in trained.studies]
        arrays[_NAMES] = np.array(names, str)
        with atomic_file(path) as work, open(work, "wb") as file:
            np.savez(file, allow_pickle=False, **arrays)
        return trained


def _training_rows(scores: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """Returns all rows of a study; of a large study, the best rows and a sample of the others."""
    if len(scores) <= _MOST_ROWS:
        return np.arange(len(scores))
    best = np.argsort(-scores, kind="stable")[: _MOST_ROWS // 4]
    others = np.setdiff1d(np.arange(len(scores)), best)
    return np.append(best, generator.choice(others, _MOST_ROWS - len(best), replace=False))


def _skills(
    features: Sequence[np.ndarray], scores: Sequence[np.ndarray], generator: np.random.Generator
) -> np.ndarray:
    """Returns the correlation of predicted and true scores of held-out trials, by study.

    A point is held out of all studies at once. Otherwise studies of the same points would predict
    one another even if their scores do not depend on the hyperparameters. The correlations of
    studies with few trials are shrunk towards the mean.

    Returns:
        float64 [S], at most 1.
    """
    points, rows = np.unique(np.concatenate(features), axis=0, return_inverse=True)
    of_points = generator.permutation(len(points)) % _FOLDS
    ends = np.cumsum([len(y) for y in scores])
    folds = np.split(of_points[rows.ravel()], ends[:-1])
    predicted = [np.zeros(len(y)) for y in scores]
    for held_out in range(_FOLDS):
        known = [fold != held_out for fold in folds]
        fitted = MetaSurrogate(
            [],
            _fit(
                [x[keep] for x, keep in zip(features, known, strict=True)],
                [y[keep] for y, keep in zip(scores, known, strict=True)],
                generator,
                _STEPS // 4,
            ),
        )
        for study, (x, keep) in enumerate(zip(features, known, strict=True)):
            predicted[study][~keep] = fitted.predict(x[~keep])[:, study]
    found = np.zeros(len(scores))
    for study, (guess, y) in enumerate(zip(predicted, scores, strict=True)):
        if np.ptp(y) > 0 and np.ptp(guess) > 0:
            found[study] = np.corrcoef(guess, y)[0, 1]
    counts = np.array([len(y) for y in scores], float)
    mean = (found * counts).sum() / counts.sum()
    return (found * counts + mean * _SHRINKAGE) / (counts + _SHRINKAGE)


def _fit(
    features: Sequence[np.ndarray],
    scores: Sequence[np.ndarray],
    generator: np.random.Generator,
    steps: int,
) -> list[np.ndarray]:
    """Returns the weights of two hidden layers, the embedding, the heads and their offsets."""
    inputs, targets, studies = np.concatenate(features), np.concatenate(scores), len(scores)
    of_study = np.repeat(np.arange(studies), [len(y) for y in scores])
    sizes = [inputs.shape[1], _WIDTH, _WIDTH, _EMBEDDING]
    layers: list[tf.Variable] = []
    for fan_in, fan_out in itertools.pairwise(sizes):
        deviation = np.sqrt(2.0 / max(fan_in, 1))
        drawn = generator.normal(0.0, deviation, (fan_in, fan_out))
        layers += [tf.Variable(drawn, dtype=tf.float32), tf.Variable(tf.zeros([fan_out]))]
    shared = tf.Variable(generator.normal(0.0, 0.1, (_EMBEDDING, 1)), dtype=tf.float32)
    own = tf.Variable(tf.zeros([_EMBEDDING, studies]))
    offsets = tf.Variable(tf.zeros([studies]))
    variables = [*layers, shared, own, offsets]
    schedule = tf.keras.optimizers.schedules.CosineDecay(3e-3, steps)
    optimizer = tf.keras.optimizers.Adam(schedule)
    # Studies are sampled equally, whatever their numbers of rows.
    weights = 1.0 / np.bincount(of_study)[of_study]
    shares = weights / weights.sum()
    strength = 1e-4 * 512 / min(len(inputs), 512)  # of the penalty: fewer rows need a stronger one

    @tf.function(reduce_retracing=True)
    def step(x: tf.Tensor, y: tf.Tensor, study: tf.Tensor) -> None:
        with tf.GradientTape() as tape:
            hidden = x
            for matrix, bias in zip(layers[::2], layers[1::2], strict=True):
                hidden = tf.nn.silu(tf.matmul(hidden, matrix) + bias)
            head = tf.gather(shared + own, study, axis=1)
            predicted = tf.einsum("be,eb->b", hidden, head) + tf.gather(offsets, study)
            loss = tf.reduce_mean(tf.square(predicted - y))
            loss += _HEAD_PENALTY * tf.reduce_mean(tf.reduce_sum(tf.square(own), axis=0))
            loss += strength * tf.add_n([tf.nn.l2_loss(matrix) for matrix in layers[0::2]])
        gradients = tape.gradient(loss, variables)
        optimizer.apply_gradients(zip(gradients, variables, strict=True))

    size = min(_BATCH, len(inputs))
    drawn_rows = generator.choice(len(inputs), (steps, size), p=shares)
    x, y, s = inputs.astype(np.float32), targets.astype(np.float32), of_study.astype(np.int32)
    for rows in drawn_rows:
        step(tf.constant(x[rows]), tf.constant(y[rows]), tf.constant(s[rows]))
    found = [variable.numpy() for variable in layers]
    return [*found, (shared + own).numpy(), offsets.numpy()]


def _digest(studies: Sequence[PriorStudy], encoding: SpaceEncoding, seed: int) -> str:
    found = hashlib.sha256(json.dumps([VERSION, encoding.digest(), seed]).encode())
    for study in studies:
        found.update(study.name.encode())
        found.update(np.ascontiguousarray(study.codes).tobytes())
        found.update(np.ascontiguousarray(study.scores).tobytes())
    return found.hexdigest()[:24]
