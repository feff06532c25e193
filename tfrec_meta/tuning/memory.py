"""What a new search knows before its first trial: earlier studies, read and learned from."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import keras_tuner

from tfrec_meta.tuning.studies import shipped as prior_studies
from tfrec_meta.tuning.studies.store import StudyRecord, StudyStore, comparable
from tfrec_meta.tuning.surrogates.encoding import SpaceEncoding
from tfrec_meta.tuning.surrogates.meta_surrogate import EarlierStudy, MetaSurrogate

_log = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True, eq=False)
class Memory:
    """What earlier studies teach a new one.

    Attributes:
        surrogate: None if there is nothing to learn from.
        studies: how many there are of the same kind.
        trials: how many these have.
    """

    surrogate: MetaSurrogate | None = None
    studies: int = 0
    trials: int = 0

    def __str__(self) -> str:
        if not self.studies:
            return "no earlier studies of this kind; the search begins with nothing but the space."
        known = f"{_count(self.studies, 'earlier study', 'earlier studies')}, "
        known += _count(self.trials, "trial", "trials")
        if self.surrogate is None:
            return f"{known}; too few or too uneven to learn from."
        taught = len(self.surrogate.studies)
        return f"{known}; the search begins with what did best in {taught} of them."


def recall(
    header: Mapping[str, Any],
    hyperparameters: keras_tuner.HyperParameters,
    store: StudyStore | None,
    surrogates: Path | None,
) -> Memory:
    """Reads what a store and the package have of the same kind, and learns from it.

    A store that can't be read is left out with a warning.

    Args:
        header: of the new study.
        hyperparameters: its space.
        store: of earlier studies; None for those of the package alone.
        surrogates: the folder where trained ones are kept; None keeps none.
    """
    studies = [*comparable(prior_studies.shipped_studies(), header), *_stored(header, store)]
    encoding = SpaceEncoding(hyperparameters)
    read = [EarlierStudy.read(study, encoding) for study in studies]
    earlier = [study for study in read if study is not None]
    surrogate = _learned(earlier, encoding, surrogates)
    return Memory(surrogate, len(studies), sum(len(study.trials) for study in studies))


def _stored(header: Mapping[str, Any], store: StudyStore | None) -> list[StudyRecord]:
    if store is None:
        return []
    try:
        return store.comparable(header)
    except Exception as error:  # a search must not end with its memory
        _log.warning(
            "%s can't be read (%s: %s); the search goes on without what it holds.",
            *(store.path, type(error).__name__, error),
        )
        return []


def _learned(
    earlier: list[EarlierStudy], encoding: SpaceEncoding, surrogates: Path | None
) -> MetaSurrogate | None:
    try:
        return MetaSurrogate.kept_or_trained(earlier, encoding, surrogates)
    except OSError as error:
        _log.warning("What was learned can't be kept in %s: %s", surrogates, error)
        return MetaSurrogate.train(earlier, encoding)


def _count(number: int, one: str, several: str) -> str:
    return f"{number} {one if number == 1 else several}"
