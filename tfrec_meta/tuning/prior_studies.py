"""Prior studies: loads the comparable ones and trains a surrogate on them before a search."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import keras_tuner

from tfrec_meta.io.logs import logger
from tfrec_meta.tuning.studies import shipped
from tfrec_meta.tuning.studies.store import StudyRecord, StudyStore, comparable
from tfrec_meta.tuning.surrogates.encoding import SpaceEncoding
from tfrec_meta.tuning.surrogates.meta_surrogate import MetaSurrogate, PriorStudy

_log = logger(__name__)


@dataclasses.dataclass(frozen=True, eq=False)
class PriorStudies:
    """What a new search learns from prior studies.

    Attributes:
        surrogate: trained on the prior studies; None if there is nothing to learn from.
        studies: the number of comparable studies.
        trials: the number of their trials.
    """

    surrogate: MetaSurrogate | None = None
    studies: int = 0
    trials: int = 0

    def __str__(self) -> str:
        if not self.studies:
            return "No comparable prior studies; the search starts from its space alone."
        found = f"{_count(self.studies, 'prior study', 'prior studies')} with "
        found += _count(self.trials, "trial", "trials")
        if self.surrogate is None:
            return f"{found}; too few or too inconsistent to learn from."
        used = len(self.surrogate.studies)
        return f"{found}; the search starts from the best points of {used} of them."


def load_prior_studies(
    header: Mapping[str, Any],
    hyperparameters: keras_tuner.HyperParameters,
    store: StudyStore | None,
    surrogates: Path | None,
) -> PriorStudies:
    """Loads the comparable studies of a store and of the package, and trains a surrogate on them.

    If the store cannot be read, a warning is logged and the search goes on without it.

    Args:
        header: of the new study.
        hyperparameters: its search space.
        store: of prior studies; None uses only the studies of the package.
        surrogates: the folder of saved surrogates; None saves nothing.
    """
    studies = [*comparable(shipped.shipped_studies(), header), *_stored(header, store)]
    encoding = SpaceEncoding(hyperparameters)
    read = [PriorStudy.read(study, encoding) for study in studies]
    prior = [study for study in read if study is not None]
    surrogate = _load_or_train(prior, encoding, surrogates)
    return PriorStudies(surrogate, len(studies), sum(len(study.trials) for study in studies))


def _stored(header: Mapping[str, Any], store: StudyStore | None) -> list[StudyRecord]:
    if store is None:
        return []
    try:
        return store.comparable(header)
    except Exception as error:  # whatever is wrong with the store, the search must go on
        _log.warning(
            "%s cannot be read (%s: %s); the search goes on without its studies.",
            *(store.path, type(error).__name__, error),
        )
        return []


def _load_or_train(
    prior: list[PriorStudy], encoding: SpaceEncoding, surrogates: Path | None
) -> MetaSurrogate | None:
    try:
        return MetaSurrogate.load_or_train(prior, encoding, surrogates)
    except OSError as error:
        _log.warning("The trained surrogate cannot be saved in %s: %s", surrogates, error)
        return MetaSurrogate.train(prior, encoding)


def _count(number: int, one: str, several: str) -> str:
    return f"{number} {one if number == 1 else several}"
