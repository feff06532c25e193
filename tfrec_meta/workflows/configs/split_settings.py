"""The "split" part of the settings of a run: its shares, and the protocol that fits the data.

Imports no TensorFlow.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from tfrec_meta.checks import Interval, check, share
from tfrec_meta.data import (
    Interactions,
    Split,
    SplitProtocol,
    split_by_item,
    split_by_time,
    split_by_user,
    split_cold_items,
    split_cold_users,
    split_leave_last_out,
)
from tfrec_meta.errors import ParameterError
from tfrec_meta.io.logs import logger

_log = logger(__name__)

# Default shares of train and validation. The protocol leave-last-out has no shares: the last event
# of each user is a test event.
_SHARES = {
    SplitProtocol.ITEM: (0.75, 0.0),
    SplitProtocol.USER: (0.75, 0.0),
    SplitProtocol.TIME: (0.8, 0.1),
    SplitProtocol.COLD_USERS: (0.8, 0.0),
    SplitProtocol.COLD_ITEMS: (0.8, 0.0),
}
_REASONS = {
    SplitProtocol.TIME: "events have times, so the split is by time: train on the past, test on "
    "the future",
    SplitProtocol.ITEM: "events have no times that differ enough, so the split is random, by item",
}
PROTOCOLS: tuple[str, ...] = (*_SHARES, SplitProtocol.LEAVE_LAST_OUT)
_TRAIN = Interval(0, 1, "a share between 0 and 1", open_low=True, open_high=True)


@dataclasses.dataclass(frozen=True)
class SplitSettings:
    """The "split" part of the settings.

    Args:
        protocol: how test events are chosen: the latest events ("time"), random events of each item
            ("item") or user ("user"), the last event of each user, or all events of some users or
            items. Without it, "time" if events have times, else "item".
        train: share of the events to train on (for cold splits: of the users or items). By default
            0.8, and 0.75 for "item" and "user". "leave-last-out" has no shares.
        validation: share of the same for early stopping and searches. By default 0.1 for "time",
            else 0.
    """

    protocol: (
        Literal["item", "user", "time", "cold-users", "cold-items", "leave-last-out"] | None
    ) = None
    train: Annotated[float, _TRAIN] | None = None
    validation: Annotated[float, share()] | None = None


def split_data(data: Interactions, split: Mapping[str, Any], seed: int) -> Split:
    """Splits the data as the "split" part of the settings describes.

    Without a protocol, the one that fits the data is used, and the log says so.

    Raises:
        ParameterError: as `fill_shares`, or if no events to train on are left.
    """
    resolved = resolved_split(split, data)
    if split["protocol"] is None:
        reason = _REASONS[resolved["protocol"]]
        _log.warning("%s: %s. `split.protocol` (--split) names another one.", data.name, reason)
    found = _split(data, resolved, seed)
    if not len(found.train_index):
        raise ParameterError(
            f"`train`={resolved['train']} leaves none of the {len(data):,} events to train on; use "
            "a larger share.",
            "train",
        )
    return found


def resolved_split(split: Mapping[str, Any], data: Interactions) -> dict[str, Any]:
    """Returns the "split" part of the settings with all values that the data decides.

    Without a protocol, it is by time if all events have a time and the times differ enough, else by
    item.

    Raises:
        ParameterError: as `fill_shares`.
    """
    return fill_shares({**split, "protocol": split["protocol"] or _fitting_protocol(data)})


def fill_shares(split: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the "split" part of the settings, with default shares where they are None.

    Without a protocol, missing shares stay None.

    Raises:
        ParameterError: for an unknown protocol, for impossible shares, or for shares of a protocol
            without shares.
    """
    protocol, train, validation = map(split.get, ("protocol", "train", "validation"))
    if protocol is not None and protocol not in PROTOCOLS:
        raise ParameterError(
            f"`protocol`={protocol!r}; use one of {', '.join(PROTOCOLS)}.", "protocol"
        )
    if protocol == SplitProtocol.LEAVE_LAST_OUT:
        if train is not None or validation is not None:
            raise ParameterError(
                "The split leave-last-out has no shares; leave out `train` and `validation`.",
                "train",
                "validation",
            )
        return dict(split)
    if train is not None:
        check("train", train, _TRAIN)
    if validation is not None:
        check("validation", validation, share())
    if protocol is not None:
        usual_train, usual_validation = _SHARES[SplitProtocol(protocol)]
        train = usual_train if train is None else train
        if validation is None:  # at most as many events as for test
            validation = min(usual_validation, round((1 - train) / 2, 9))
    if (train or 0) + (validation or 0) >= 1:
        raise ParameterError(
            f"`train`={train} and `validation`={validation} leave no test events; use shares with "
            "a sum below 1.",
            "train",
            "validation",
        )
    return {"protocol": protocol, "train": train, "validation": validation}


def _fitting_protocol(data: Interactions) -> SplitProtocol:
    """The protocol of a split if none is named."""
    if not len(data) or data.events["time"].null_count:
        return SplitProtocol.ITEM
    try:
        split_by_time(data, *_SHARES[SplitProtocol.TIME])
    except ParameterError:  # too few different times
        return SplitProtocol.ITEM
    return SplitProtocol.TIME


def _split(data: Interactions, split: Mapping[str, Any], seed: int) -> Split:
    train, validation = split["train"], split["validation"]
    match SplitProtocol(split["protocol"]):
        case SplitProtocol.LEAVE_LAST_OUT:
            return split_leave_last_out(data)
        case SplitProtocol.TIME:
            return split_by_time(data, train, validation)
        case SplitProtocol.ITEM:
            return split_by_item(data, train, validation, seed)
        case SplitProtocol.USER:
            return split_by_user(data, train, validation, seed)
        case protocol:
            cold_users = protocol is SplitProtocol.COLD_USERS
            cold = split_cold_users if cold_users else split_cold_items
            return cold(data, round(1 - train - validation, 9), validation, seed)
