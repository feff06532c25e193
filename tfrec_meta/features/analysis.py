"""Beam transforms that fit a FeatureSpec in TensorFlow Transform: count, merge, grow once."""

from __future__ import annotations

import os
import tempfile
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import apache_beam as beam
import numpy as np
import pyarrow as pa
import tensorflow as tf
from tensorflow_transform.beam.experimental import PTransformAnalyzer

from tfrec_meta.features import fitting
from tfrec_meta.features.columns import mean_and_scale
from tfrec_meta.features.kinds import Feature, Number
from tfrec_meta.features.spec import FeatureSpec
from tfrec_meta.features.vocabulary import NO_TOKENS

SPEC_FILE = "spec.json"
_PARTS = 64  # counted batches before a merge


class Fit(PTransformAnalyzer):
    """Counts batches, merges the counts, grows the spec once and writes it as assets."""

    def __init__(
        self,
        spec: FeatureSpec,
        features: Mapping[str, Feature | None],
        vocabularies: Sequence[str],
    ):
        super().__init__()
        self._spec = spec
        self._features = dict(features)
        self._files = [*(f"{key}.txt" for key in vocabularies), SPEC_FILE]

    def expand(self, batches: beam.PCollection) -> tuple[beam.PCollection, ...]:
        written = (
            batches
            | "Count" >> beam.CombineGlobally(_Count(self._features))
            | "Grow" >> beam.Map(_write, self._spec, self._files, str(self.base_temp_dir))
        )
        return tuple(written | name >> beam.Map(_path, name) for name in self._files)


class Statistics(beam.PTransform):
    """Computes mean and scale of numbers, float32 [numbers, 2]."""

    def __init__(self, numbers: Mapping[str, Number]):
        super().__init__()
        self._numbers = dict(numbers)

    def expand(self, batches: beam.PCollection) -> tuple[beam.PCollection]:
        counts = batches | "Count" >> beam.CombineGlobally(_Count(self._numbers))
        return (counts | "Scale" >> beam.Map(_scales),)


class _Count(beam.CombineFn):
    """Combines batches, each a tuple of arrays, into counts by key."""

    def __init__(self, features: Mapping[str, Feature | None]):
        self._features = dict(features)

    def create_accumulator(self) -> dict[str, list[fitting.Counted]]:
        return {key: [fitting.count(f, _empty(f))] for key, f in self._features.items()}

    def add_input(
        self, counts: dict[str, list[fitting.Counted]], batch: Sequence[np.ndarray]
    ) -> dict[str, list[fitting.Counted]]:
        for (key, feature), values in zip(self._features.items(), batch, strict=True):
            if not len(values):
                continue
            if not isinstance(feature, Number):
                values = pa.array(values, pa.binary()).cast(pa.string())
            counts[key].append(fitting.count(feature, values))
            if len(counts[key]) > _PARTS:
                counts[key] = [fitting.merge(counts[key])]
        return counts

    def merge_accumulators(
        self, accumulators: Sequence[dict[str, list[fitting.Counted]]]
    ) -> dict[str, list[fitting.Counted]]:
        every = list(accumulators)
        return {
            key: [fitting.merge([part for counts in every for part in counts[key]])]
            for key in self._features
        }

    def compact(self, counts: dict[str, list[fitting.Counted]]) -> dict[str, list[fitting.Counted]]:
        return {key: [fitting.merge(parts)] for key, parts in counts.items()}

    def extract_output(
        self, counts: dict[str, list[fitting.Counted]]
    ) -> dict[str, fitting.Counted]:
        return {key: fitting.merge(parts) for key, parts in counts.items()}


def _empty(feature: Feature | None) -> Any:
    return np.empty(0, np.float32) if isinstance(feature, Number) else pa.array([], pa.string())


def _write(
    counts: Mapping[str, fitting.Counted], spec: FeatureSpec, files: Sequence[str], folder: str
) -> str:
    """Grows the spec and writes it into a new folder; returns the folder."""
    fitted = spec.grow(counts)
    target = os.path.join(folder, uuid.uuid4().hex)
    tf.io.gfile.makedirs(target)
    with tempfile.TemporaryDirectory() as work:
        made = Path(work) / "spec"
        fitted.save(made)
        for name in files:
            if not (made / name).stat().st_size:
                (made / name).write_bytes(NO_TOKENS)
            tf.io.gfile.copy(str(made / name), os.path.join(target, name))
    return target


def _path(folder: str, name: str) -> np.ndarray:
    return np.array(os.path.join(folder, name))


def _scales(counts: Mapping[str, fitting.Moments]) -> np.ndarray:
    scales = [mean_and_scale(moments.mean_and_deviation()) for moments in counts.values()]
    return np.array(scales, np.float32)
