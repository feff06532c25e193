"""Weights of prior studies by the similarity of their data sets."""

from __future__ import annotations

import enum
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from tfrec_meta.tuning.surrogates.meta_surrogate import MetaSurrogate


class Similarity(enum.StrEnum):
    """What the similarity of two data sets is measured by."""

    PROFILE = "profile"  # counts and shapes, see `data_profile`
    TEXTS = "texts"  # text embeddings of descriptions and items


def similarity_weights(
    surrogate: MetaSurrogate,
    profile: Mapping[str, Any] | None = None,
    text_embedding: Sequence[float] | None = None,
) -> np.ndarray:
    """Weights prior studies before the new study has any trial.

    The weights are equal unless a profile or a text embedding of the new data is given. Then they
    are Gaussians of the distance, whose width is the median distance between prior studies.

    Args:
        surrogate: of the prior studies.
        profile: of the new data, by name.
        text_embedding: float [E] of the new data's texts.

    Returns:
        float64 [S], with sum 1.
    """
    count = len(surrogate.studies)
    weights = np.ones(count)
    if profile is not None:
        names = sorted(name for name, value in profile.items() if math.isfinite(value))
        known = np.array(
            [[(s.profile or {}).get(name, np.nan) for name in names] for s in surrogate.studies]
        )
        new = np.array([profile[name] for name in names])
        weights *= _gaussian_similarity(known, new, standardise=True)
    if text_embedding is not None:
        width = len(text_embedding)
        unknown = [np.nan] * width
        rows = [
            s.text_embedding
            if s.text_embedding is not None and len(s.text_embedding) == width
            else unknown
            for s in surrogate.studies
        ]
        new = np.array(text_embedding)
        weights *= _gaussian_similarity(np.array(rows), new, standardise=False)
    return weights / weights.sum()


def _gaussian_similarity(known: np.ndarray, new: np.ndarray, *, standardise: bool) -> np.ndarray:
    """Returns similarities in (0, 1]; rows with unknown values get the median of the others."""
    complete = ~np.isnan(known).any(axis=1)
    if complete.sum() < 2:
        return np.ones(len(known))
    rows = known[complete]
    if standardise:
        centre, spread = rows.mean(axis=0), rows.std(axis=0) + 1e-9
        rows, new = (rows - centre) / spread, np.clip((new - centre) / spread, -3.0, 3.0)
    between = np.sqrt(((rows[:, None] - rows[None]) ** 2).sum(axis=2))
    width = np.median(between[np.triu_indices(len(rows), 1)]) + 1e-9
    near = np.exp(-0.5 * ((rows - new) ** 2).sum(axis=1) / width**2)
    found = np.full(len(known), np.median(near))
    found[complete] = near
    return np.maximum(found, 1e-3)
