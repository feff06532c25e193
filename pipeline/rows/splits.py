"""The splits of the events of some users."""

from __future__ import annotations

import numpy as np

from tfrec_meta.data import Interactions, split_leave_last_out
from tfrec_meta.data.protocols import SplitProtocol
from tfrec_meta.pipeline.config import SplitConfig
from tfrec_meta.pipeline.rows.partitions import token_hash
from tfrec_meta.pipeline.rows.surveys import RowSurvey

# The parts of events, the first three in the order of `features.transform.EVENT_SPLITS`. Events of
# the last two are not of the target: they are known at test time only, or in no part.
TRAIN, VALIDATION, TEST, PAST_ONLY, NO_PART = range(5)


def time_cuts(survey: RowSurvey, config: SplitConfig) -> tuple[int, int]:
    """Returns the times at which validation and test begin, as in `split_by_time`.

    Args:
        survey: of the cleaned events, see `plausible_events`.
        config: the shares.
    """
    below = np.cumsum(survey.counts)
    shares = (config.train, config.train + config.validation)
    positions = [min(round(share * survey.rows), survey.rows - 1) for share in shares]
    first, second = survey.times[np.searchsorted(below, positions, side="right")]
    return int(first), int(second)


def parts_of(
    data: Interactions, config: SplitConfig, cuts: tuple[int, int] | None, seed: int
) -> np.ndarray:
    """Returns the part of each event, int8 [n]: TRAIN, VALIDATION, TEST, PAST_ONLY or NO_PART.

    Args:
        data: all events of some users.
        config: the protocol and its shares.
        cuts: for the protocol "time", see `time_cuts`.
        seed: for "cold-users". Whether a user is held out depends on id and seed only, so that it
            does not change as data is added; the shares are met on average.
    """
    parts = np.full(len(data), TRAIN, np.int8)
    is_target = np.ones(len(data), bool) if data.is_target is None else data.is_target
    if config.protocol == SplitProtocol.TIME:
        assert cuts is not None
        times = data.events["time"].to_numpy()
        parts[times >= cuts[0]] = VALIDATION
        parts[(times >= cuts[0]) & ~is_target] = PAST_ONLY
        parts[times >= cuts[1]] = TEST
        parts[(times >= cuts[1]) & ~is_target] = NO_PART
    elif config.protocol == SplitProtocol.LEAVE_LAST_OUT:
        if is_target.any():  # other users may have target events
            split = split_leave_last_out(data)
            parts[:] = NO_PART
            parts[split.train_index] = TRAIN
            parts[split.validation_index] = VALIDATION
            parts[split.test_index] = TEST
            parts[split.past_only_index] = PAST_ONLY
    else:
        drawn = np.array([token_hash(user, str(seed)) / 2**64 for user in data.user_ids])
        part = (drawn >= config.train).astype(np.int8) + (drawn >= config.train + config.validation)
        parts = part[data.user_codes].astype(np.int8)
        parts[(parts != TRAIN) & ~is_target] = NO_PART
    return parts
