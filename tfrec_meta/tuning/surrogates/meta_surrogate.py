"""What earlier studies know: a network that predicts how good a point is in each of them.

One embedding network for all studies, and a linear head a study, kept near the heads' mean by a
penalty, so that a study of few trials says little of its own (ABLR, "Scalable Hyperparameter
Transfer Learning", NeurIPS 2018; FSBO, "Few-Shot Bayesian Optimization with Deep Kernel
Surrogates", ICLR 2021). The predictions are the basis of the linear part of a Gaussian process over
the new study (`mixed_surrogate`).

Studies measure different things on different data, so their objectives are compared by rank alone:
each becomes normal scores within its study.
"""

from __future__ import annotations

import dataclasses
import hashlib
import itertools
import json
import logging
import math
import os
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
from scipy.stats import norm, rankdata

from tfrec_meta.tuning.studies.store import StudyRecord
from tfrec_meta.tuning.surrogates.encoding import SpaceEncoding, key, keys

VERSION = 1  # of what is kept; raise it with the network or the scores
_FEWEST_TRIALS = 4  # that can be usefully compared with one another
_MOST_ROWS = 4096  # of one study
_BATCH, _STEPS = 512, 1500
_WIDTH, _EMBEDDING = 128, 32
_HEAD_PENALTY = 1e-2
_PARTS, _SHRINKAGE, _LEAST_SKILL = 3, 20.0, 0.1
_NAMES = "studies"  # in a kept file
_log = logging.getLogger(__name__)


def normal_scores(values: np.ndarray) -> np.ndarray:
    """float64 [N]: quantiles of the normal distribution by rank, ties by their mean rank."""
    if not len(values):
        return np.zeros(0)
    return norm.ppf((rankdata(values) - 0.5) / len(values))


@dataclasses.dataclass(frozen=True)
class EarlierStudy:
    """A study's trials as points of the space that is searched now.

    Attributes:
        name: of the study.
        codes: float64 [N, P], each point once.
        scores: float64 [N], normal scores, higher is better; of points that failed the lowest.
        profile: of its data, by name.
        text_embedding: float [E] of its data's texts, if there is one.
    """

    name: str
    codes: np.ndarray
    scores: np.ndarray
    profile: Mapping[str, float] | None = None
    text_embedding: Sequence[float] | None = None

    @classmethod
    def read(cls, study: StudyRecord, encoding: SpaceEncoding) -> EarlierStudy | None:
        """None for a study with too few trials that lie in the space.

        Of trials at one point the one with the largest budget counts.
        """
        sign = 1.0 if study.direction == "max" else -1.0
        found: dict[bytes, tuple[int, np.ndarray, float]] = {}
        for trial in study.trials:
            codes = encoding.codes(trial["values"])
            if codes is None:
                continue
            value = -math.inf if trial["value"] is None else sign * trial["value"]
            before = found.get(key(codes))
            if before is None or before[0] <= trial["budget"]:
                found[key(codes)] = (trial["budget"], codes, value)
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
    """Predicts normal scores in earlier studies.

    Args:
        studies: what it knows.
        weights: of the network; see `train`.
    """

    def __init__(self, studies: Sequence[EarlierStudy], weights: Sequence[np.ndarray]):
        self.studies = tuple(studies)
        self._weights = [np.asarray(weight, np.float64) for weight in weights]
        self._observed = [
            dict(zip(keys(study.codes), study.scores, strict=True)) for study in self.studies
        ]

    @classmethod
    def train(
        cls, studies: Sequence[EarlierStudy], encoding: SpaceEncoding, seed: int = 0
    ) -> MetaSurrogate | None:
        """Fits the network; seconds on a CPU.

        Each third of the trials is held out at first: a study whose trials can't be foreseen from
        the others teaches nothing, and is left out.

        Args:
            studies: any number.
            encoding: of the space, in which the studies were read.
            seed: of the weights, and of the rows that are taken of large studies.

        Returns:
            None if no study is left to learn from.
        """
        if not studies:
            return None
        generator = np.random.default_rng(seed)
        rows = [_telling_rows(study.scores, generator) for study in studies]
        features = [encoding.features(s.codes[r]) for s, r in zip(studies, rows, strict=True)]
        scores = [s.scores[r] for s, r in zip(studies, rows, strict=True)]
        skills = _skills(features, scores, generator)
        chosen = np.flatnonzero(skills >= _LEAST_SKILL).tolist()
        _log.info("Skill of the surrogate on trials held out, a study: %s", skills.round(2))
        if not chosen:
            return None
        weights = _fit([features[i] for i in chosen], [scores[i] for i in chosen], generator)
        return cls([studies[i] for i in chosen], weights)

    def predict(self, features: np.ndarray) -> np.ndarray:
        """float64 [N, S]: the scores that points, as features [N, D], would have in each study."""
        *layers, heads, offsets = self._weights
        hidden = features
        for matrix, bias in zip(layers[::2], layers[1::2], strict=True):
            hidden = hidden @ matrix + bias
            hidden = hidden / (1.0 + np.exp(-np.clip(hidden, -60.0, 60.0)))
        return hidden @ heads + offsets

    def known_or_predicted(self, codes: np.ndarray, features: np.ndarray) -> np.ndarray:
        """float64 [N, S]: as `predict`, but where a study tried the point what it found."""
        found = self.predict(features)
        for row, point in enumerate(keys(codes)):
            for column, observed in enumerate(self._observed):
                if point in observed:
                    found[row, column] = observed[point]
        return found

    def best_points(self, each: int) -> np.ndarray:
        """float64 [M, P]: the `each` best points of every study."""
        return np.concatenate(
            [s.codes[np.argsort(-s.scores, kind="stable")[:each]] for s in self.studies]
        )

    # Beside the store.

    def weights(self) -> dict[str, np.ndarray]:
        """The network's, by name, in the order that the constructor takes."""
        return {f"weight_{place:02d}": weight for place, weight in enumerate(self._weights)}

    @classmethod
    def kept_or_trained(
        cls,
        studies: Sequence[EarlierStudy],
        encoding: SpaceEncoding,
        folder: Path | None,
        seed: int = 0,
    ) -> MetaSurrogate | None:
        """Reads what was trained before on the very same studies, else trains, and keeps it.

        Args:
            folder: where trained networks are; None keeps nothing.
        """
        if folder is None or not studies:
            return cls.train(studies, encoding, seed)
        path = folder / f"{_digest(studies, encoding, seed)}.npz"
        try:
            with np.load(path, allow_pickle=False) as kept:
                names = kept[_NAMES].tolist()
                chosen = [study for study in studies if study.name in names]
                weights = [kept[name] for name in sorted(kept.files) if name != _NAMES]
                return cls(chosen, weights) if chosen else None
        except FileNotFoundError:
            pass
        except (OSError, EOFError, ValueError, KeyError, zipfile.BadZipFile) as error:
            _log.warning("%s can't be read (%s); the surrogate is trained anew.", path, error)
        trained = cls.train(studies, encoding, seed)
        path.parent.mkdir(parents=True, exist_ok=True)
        beside = path.with_name(f".{path.stem}-{os.getpid()}.partial")
        arrays = {} if trained is None else trained.weights()
        names = [] if trained is None else [study.name for study in trained.studies]
        arrays[_NAMES] = np.array(names, str)
        with beside.open("wb") as file:
            np.savez(file, allow_pickle=False, **arrays)
        beside.replace(path)
        return trained


def _telling_rows(scores: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """All rows of a study; of a large one the best, and some of the others."""
    if len(scores) <= _MOST_ROWS:
        return np.arange(len(scores))
    best = np.argsort(-scores, kind="stable")[: _MOST_ROWS // 4]
    others = np.setdiff1d(np.arange(len(scores)), best)
    return np.append(best, generator.choice(others, _MOST_ROWS - len(best), replace=False))


def _skills(
    features: Sequence[np.ndarray], scores: Sequence[np.ndarray], generator: np.random.Generator
) -> np.ndarray:
    """float64 [S], at most 1: the correlation of predicted and true scores of trials held out.

    Of a study with few trials it is drawn towards the mean of all, as its own says little.
    """
    part = [generator.permutation(len(y)) % _PARTS for y in scores]
    predicted = [np.zeros(len(y)) for y in scores]
    for out in range(_PARTS):
        known = [of_study != out for of_study in part]
        fitted = MetaSurrogate(
            [],
            _fit(
                [x[keep] for x, keep in zip(features, known, strict=True)],
                [y[keep] for y, keep in zip(scores, known, strict=True)],
                generator,
                steps=_STEPS // 4,
            ),
        )
        for place, (x, keep) in enumerate(zip(features, known, strict=True)):
            predicted[place][~keep] = fitted.predict(x[~keep])[:, place]
    found = np.zeros(len(scores))
    for place, (guess, y) in enumerate(zip(predicted, scores, strict=True)):
        if np.ptp(y) > 0 and np.ptp(guess) > 0:
            found[place] = np.corrcoef(guess, y)[0, 1]
    counts = np.array([len(y) for y in scores], float)
    mean = (found * counts).sum() / counts.sum()
    return (found * counts + mean * _SHRINKAGE) / (counts + _SHRINKAGE)


def _fit(
    features: Sequence[np.ndarray],
    scores: Sequence[np.ndarray],
    generator: np.random.Generator,
    steps: int = _STEPS,
) -> list[np.ndarray]:
    """Weights of two hidden layers, the embedding, the heads and their offsets."""
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
    # Every study counts alike, however many of its rows there are.
    weights = (1.0 / np.bincount(of_study, minlength=studies))[of_study]
    shares = weights / weights.sum()
    strength = 1e-4 * 512 / min(len(inputs), 512)  # of the penalty: few rows need more of it

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


def _digest(studies: Sequence[EarlierStudy], encoding: SpaceEncoding, seed: int) -> str:
    found = hashlib.sha256(json.dumps([VERSION, encoding.digest(), seed]).encode())
    for study in studies:
        found.update(study.name.encode())
        found.update(np.ascontiguousarray(study.codes).tobytes())
        found.update(np.ascontiguousarray(study.scores).tobytes())
    return found.hexdigest()[:24]


def affinities(
    surrogate: MetaSurrogate,
    profile: Mapping[str, Any] | None = None,
    text_embedding: Sequence[float] | None = None,
) -> np.ndarray:
    """float64 [S], of sum 1: how much each study is believed before there is any trial.

    Alike for all, unless a profile or a text embedding of the new data is given: then by a Gaussian
    of the distance, whose width is the median distance among the studies.
    """
    count = len(surrogate.studies)
    weights = np.ones(count)
    if profile is not None:
        names = sorted(name for name, value in profile.items() if math.isfinite(value))
        known = np.array(
            [[(s.profile or {}).get(name, np.nan) for name in names] for s in surrogate.studies]
        )
        weights *= _nearness(known, np.array([profile[name] for name in names]), standardise=True)
    if text_embedding is not None:
        width = len(text_embedding)
        nothing = [np.nan] * width
        rows = [
            s.text_embedding
            if s.text_embedding is not None and len(s.text_embedding) == width
            else nothing
            for s in surrogate.studies
        ]
        weights *= _nearness(np.array(rows), np.array(text_embedding), standardise=False)
    return weights / weights.sum()


def _nearness(known: np.ndarray, new: np.ndarray, *, standardise: bool) -> np.ndarray:
    """In (0, 1]; of a row of which something is unknown the median of the others."""
    whole = ~np.isnan(known).any(axis=1)
    if whole.sum() < 2:
        return np.ones(len(known))
    rows = known[whole]
    if standardise:
        centre, spread = rows.mean(axis=0), rows.std(axis=0) + 1e-9
        rows, new = (rows - centre) / spread, np.clip((new - centre) / spread, -3.0, 3.0)
    between = np.sqrt(((rows[:, None] - rows[None]) ** 2).sum(axis=2))
    width = np.median(between[np.triu_indices(len(rows), 1)]) + 1e-9
    near = np.exp(-0.5 * ((rows - new) ** 2).sum(axis=1) / width**2)
    found = np.full(len(known), np.median(near))
    found[whole] = near
    return np.maximum(found, 1e-3)
