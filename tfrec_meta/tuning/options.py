"""The options of a search, grouped by subject."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Annotated

from tfrec_meta.checks import PositiveFloat, PositiveInt, check_fields, one_of
from tfrec_meta.errors import ParameterError
from tfrec_meta.tuning.distributed.chief import LEASE_SECONDS
from tfrec_meta.tuning.oracles.registry import ORACLES
from tfrec_meta.tuning.studies.store import StudyStore
from tfrec_meta.tuning.surrogates.similarity import Similarity


@dataclasses.dataclass(frozen=True)
class SearchOptions:
    """How a search runs.

    Args:
        oracle: a key of `ORACLES`.
        trials: the maximum number of trials in the whole search.
        epochs: the maximum for each trial; "hyperband" and "meta_hyperband" give most trials fewer.
        seed: of the oracle.
        trial_seconds: the time limit of a trial in seconds; infinity for no limit. By default, it
            is ten times the longest completed trial of the search, and at least ten minutes; until
            a trial has completed, there is none. A trial that trains ends after the epoch in which
            it exceeds the limit. A trial that reports no epochs is checked when it has ended. A
            trial that hangs must be killed from outside.
        lease_seconds: after this time without a heartbeat, a worker counts as dead, and another
            worker gets its trial.
        progress: whether to show progress: a table on a terminal, else one line per trial.

    Raises:
        ValueError: for an unknown oracle, or a number that is not positive.
    """

    oracle: Annotated[str, one_of(ORACLES)] = "meta_bayesian"
    trials: PositiveInt = 30
    epochs: PositiveInt = 8
    seed: int = 42
    trial_seconds: PositiveFloat | None = None
    lease_seconds: PositiveFloat = LEASE_SECONDS
    progress: bool = True

    def __post_init__(self) -> None:
        check_fields(self)


@dataclasses.dataclass(frozen=True)
class TransferOptions:
    """How a search uses prior studies, and where it is recorded for later ones.

    Args:
        store: the store that the study is written to; None writes it nowhere.
        use_prior_studies: whether the oracles of `TRANSFER_ORACLES` learn from the studies of the
            package and of `store`.
        similarity: members of `Similarity` or their values. Prior studies with similar data get
            higher weights; all weights are equal by default.

    Raises:
        ValueError: for an unknown similarity.
    """

    store: StudyStore | None = None
    use_prior_studies: bool = False
    similarity: Sequence[Similarity | str] = ()

    def __post_init__(self) -> None:
        known = [member.value for member in Similarity]
        unknown = sorted(set(self.similarity) - set(known))
        if unknown:
            raise ParameterError(
                f"`similarity` has {', '.join(unknown)}; use any of {', '.join(known)}.",
                "similarity",
            )
        object.__setattr__(self, "similarity", tuple(map(Similarity, self.similarity)))
