"""Seeded splits of interactions into train, validation and test parts.

With a target of the declared feedback, validation and test contain only events of the target. The
other events inform: they are in train, or in `past` alone if they came after the validation events.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from tfrec_meta.data.interactions import Interactions
from tfrec_meta.data.protocols import SplitProtocol
from tfrec_meta.errors import ParameterError

_WORDS = {
    SplitProtocol.ITEM: "random by item",
    SplitProtocol.USER: "random by user",
    SplitProtocol.TIME: "by time",
    SplitProtocol.LEAVE_LAST_OUT: "leave last out",
    SplitProtocol.COLD_USERS: "cold users",
    SplitProtocol.COLD_ITEMS: "cold items",
    SplitProtocol.DOMAIN: "domain",
    SplitProtocol.GIVEN: "given parts",
}


@dataclass(frozen=True, eq=False, repr=False)
class Split:
    """Disjoint parts of one data set, as event rows in ascending order.

    Attributes:
        data: the interactions that are split.
        train_index, validation_index, test_index: int64 event rows of `data`.
        protocol: how the events were divided; a member of `SplitProtocol` or its value.
        seed: the seed of a protocol that draws at random, else None.
        details: shares and other settings of the protocol, in words; a part of `description`.
        past_only_index: int64 event rows that are known at test time, but are neither training nor
            validation events: those that are not of the target, later than the training events.
    """

    data: Interactions
    train_index: np.ndarray
    validation_index: np.ndarray
    test_index: np.ndarray
    protocol: SplitProtocol = SplitProtocol.GIVEN
    seed: int | None = None
    details: str = ""
    past_only_index: np.ndarray = field(default_factory=lambda: np.empty(0, np.int64))

    def __post_init__(self) -> None:
        object.__setattr__(self, "protocol", SplitProtocol(self.protocol))
        times_used = np.zeros(len(self.data), np.int8)
        for name in ("train_index", "validation_index", "test_index", "past_only_index"):
            rows = np.sort(np.asarray(getattr(self, name), np.int64))
            if rows.size and (rows[0] < 0 or rows[-1] >= len(self.data)):
                raise ValueError(f"`{name}` has rows outside of the {len(self.data)} events.")
            if (rows[1:] == rows[:-1]).any() or times_used[rows].any():
                raise ValueError(f"`{name}` repeats a row; use each row once.")
            times_used[rows] = 1
            rows.flags.writeable = False
            object.__setattr__(self, name, rows)

    @cached_property
    def train(self) -> Interactions:
        """The events to train on."""
        return self._part(self.train_index)

    @cached_property
    def validation(self) -> Interactions:
        """The events to select models by; may be empty."""
        return self._part(self.validation_index)

    @cached_property
    def test(self) -> Interactions:
        """The events for the final evaluation."""
        return self._part(self.test_index)

    @cached_property
    def past(self) -> Interactions:
        """The events that are known at test time: train, validation and `past_only_index`."""
        known = (self.train_index, self.validation_index, self.past_only_index)
        return self._part(np.sort(np.concatenate(known)))

    def _part(self, rows: np.ndarray) -> Interactions:
        sampled = self.protocol.is_random or self.data.sampled
        return replace(self.data.take(rows), sampled=sampled)

    @property
    def description(self) -> str:
        """The protocol and its settings in words, for people; programs use `protocol`."""
        words = _WORDS[self.protocol]
        return f"{words}, {self.details}" if self.details else words

    def __repr__(self) -> str:
        return (
            f"Split({self.data.name!r}, {self.description}: {len(self.train_index):,} train, "
            f"{len(self.validation_index):,} validation, {len(self.test_index):,} test)"
        )


def split_by_item(
    data: Interactions, train: float = 0.75, validation: float = 0.0, seed: int = 42
) -> Split:
    """Splits at random, stratified by item: a share `train` of each item's events is train.

    Each event draws a random number, in row order, and an item's events are sorted by it. The first
    `round(train * count)` (half to even) of them are train, the next ones up to
    `round((train + validation) * count)` are validation, and the rest are test. Seed 42 and a share
    of 0.75 give the rows of the public MovieLens-100K benchmark. With a target, the shares are
    those of each item's target events, and all other events are train.

    Args:
        data: the interactions.
        train, validation: shares of each item's events.
        seed: of the random numbers.

    Raises:
        ValueError: if the shares are invalid or there are no events.

    Example:
        >>> import tfrec_meta as tm
        >>> tm.split_by_item(tm.synthetic(20, 10, 100), train=0.6)
        Split('synthetic', random by item, 0.6 train, 0 validation: 60 train, 0 validation, 40 test)

    Source: `python_stratified_split` of github.com/recommenders-team/recommenders, as its
    benchmark notebook uses it.
    """
    return _stratified(data, SplitProtocol.ITEM, train, validation, seed)


def split_by_user(
    data: Interactions, train: float = 0.75, validation: float = 0.0, seed: int = 42
) -> Split:
    """Splits at random, stratified by user: like `split_by_item`, with the events of each user."""
    return _stratified(data, SplitProtocol.USER, train, validation, seed)


def split_leave_last_out(data: Interactions, validation: bool = True) -> Split:
    """Holds out each user's last event for test and the last but one for validation.

    Events with the same time are ordered by row. All events of a user with fewer than 3 events (2
    without validation) are train. With a target, only target events are counted and held out. Of
    the other events, those before the first held-out event of their user are train, those between
    the two held-out events are known at test time only, and later ones are in no part.

    Args:
        data: the interactions, with times.
        validation: whether to hold out a validation event.

    Raises:
        ValueError: if the events have no times.
    """
    times = _times(data, "split_leave_last_out")
    users, is_target = data.user_codes, _target(data)
    order = np.lexsort((times, users))
    user, target = users[order], is_target[order]
    count = np.bincount(users[is_target], minlength=len(data.user_ids))
    until = np.cumsum(target)  # target events up to each event, itself included
    # Target events of the user from each event on, and whether the event is one of them.
    from_here = np.cumsum(count)[user] - until + target
    enough = count[user] >= (3 if validation else 2)
    test = enough & target & (from_here == 1)
    in_validation = enough & target & (from_here == 2) if validation else np.zeros_like(test)
    is_train = ~enough | (from_here + ~target > (2 if validation else 1))
    past_only = enough & ~target & (from_here == 1) if validation else np.zeros_like(test)
    return Split(
        data,
        order[is_train],
        order[in_validation],
        order[test],
        SplitProtocol.LEAVE_LAST_OUT,
        details="last but one for validation" if validation else "",
        past_only_index=order[past_only],
    )


def split_by_time(data: Interactions, train: float = 0.8, validation: float = 0.1) -> Split:
    """Splits by time: the earliest events are train, then validation, and the latest are test.

    The cuts are the times before which a share `train`, and a share `train + validation`, of the
    events lie. Events in the second of a cut belong to the later part, so that no second is in two
    parts. With a target, the shares are those of the target events. Other events of the time of
    validation are known at test time only, and those of the time of test are in no part.

    Args:
        data: the interactions, with times.
        train, validation: shares of the events.

    Raises:
        ValueError: if the events have no times, or too few different ones for non-empty parts.
    """
    _check_shares(train=train, validation=validation)
    times, is_target = _times(data, "split_by_time"), _target(data)
    ordered = np.sort(times[is_target])
    size = len(ordered)
    cut_train = ordered[min(round(train * size), size - 1)]
    cut_test = ordered[min(round((train + validation) * size), size - 1)]
    in_train, in_test = times < cut_train, times >= cut_test
    between = ~in_train & ~in_test
    parts = {"train": in_train, "validation": between & is_target, "test": in_test & is_target}
    for part, rows in parts.items():
        if not rows.any() and not (part == "validation" and validation == 0):
            raise ParameterError(
                f"`train`={train:g} and `validation`={validation:g} leave no {part} events: "
                f"{data.name} has {len(np.unique(ordered))} distinct times for {size} events. "
                "Change the shares, or use another split, such as the one by user.",
                "train",
                "validation",
            )
    train_index, validation_index, test_index = map(np.flatnonzero, parts.values())
    return Split(
        data,
        train_index,
        validation_index,
        test_index,
        SplitProtocol.TIME,
        details=f"{train:g} train, {validation:g} validation",
        past_only_index=np.flatnonzero(between & ~is_target),
    )


def split_cold_users(
    data: Interactions, test: float = 0.2, validation: float = 0.0, seed: int = 42
) -> Split:
    """Holds out all events of a random share of the users, who are therefore unknown in train.

    The chosen users depend on their ids and the seed, not on the order of the rows. With a target,
    the other events of these users are in no part.

    Args:
        data: the interactions.
        test, validation: shares of the users.
        seed: of the random choice.

    Raises:
        ValueError: if the shares are invalid or a part would be empty.
    """
    return _cold(data, SplitProtocol.COLD_USERS, test, validation, seed)


def split_cold_items(
    data: Interactions, test: float = 0.2, validation: float = 0.0, seed: int = 42
) -> Split:
    """Holds out all events of a random share of the items; like `split_cold_users`."""
    return _cold(data, SplitProtocol.COLD_ITEMS, test, validation, seed)


def split_domain(
    data: Interactions,
    attribute: str,
    value: str,
    test: float = 0.2,
    validation: float = 0.0,
    seed: int = 42,
) -> Split:
    """Holds out a domain, such as a genre or a shop, together with a random share of the users.

    Train has the events of the other users with items outside of the domain. Validation and test
    have the events of the held-out users with items of the domain. All other events are in no part.
    An item with several values belongs to the domain if one of them is `value`.

    Args:
        data: interactions with a table of items.
        attribute: a column of the items table, of strings or lists of strings.
        value: the value of the held-out items.
        test, validation: shares of the users, as in `split_cold_users`.
        seed: of the random choice of users.

    Raises:
        ValueError: if there is no such column or value, or a part would be empty.
    """
    columns = [] if data.items is None else data.items.column_names
    if data.items is None or attribute not in columns:
        raise ValueError(f"The items table has no column `{attribute}`; it has {columns}.")
    column = data.items[attribute].combine_chunks()
    row = np.arange(len(column))
    if pa.types.is_list(column.type):
        row, column = pc.list_parent_indices(column).to_numpy(), column.flatten()
    tokens = column.cast(pa.string()).fill_null("").to_numpy(zero_copy_only=False)
    items = data.items["item_id"].to_numpy()[np.unique(row[tokens == value])]
    inside = np.isin(data.item_ids, items)[data.item_codes]
    if inside.all() or not inside.any():
        raise ValueError(
            f"`value`={value!r} of `{attribute}` has {inside.sum()} of {len(data)} events; a "
            "domain needs some events, and some outside of it."
        )
    people = split_cold_users(data, test, validation, seed)
    in_train = people.train_index[~inside[people.train_index]]
    in_validation, in_test = (
        rows[inside[rows]] for rows in (people.validation_index, people.test_index)
    )
    if not len(in_train) or not len(in_test) or (validation and not len(in_validation)):
        raise ValueError(
            f"`test`={test} and `validation`={validation} of the users leave a part of the domain "
            f"{value!r} empty; change the shares or use more data."
        )
    details = f"{attribute} {value!r}, {test:g} of users test, {validation:g} validation"
    return Split(data, in_train, in_validation, in_test, SplitProtocol.DOMAIN, seed, details)


def _stratified(
    data: Interactions, protocol: SplitProtocol, train: float, validation: float, seed: int
) -> Split:
    _check_shares(train=train, validation=validation)
    _check_not_empty(data)
    codes = data.item_codes if protocol is SplitProtocol.ITEM else data.user_codes
    is_target = _target(data)
    # RandomState, not Generator, since the public benchmark uses its random numbers.
    draw = np.random.RandomState(seed).rand(len(data))
    rows = np.flatnonzero(is_target)
    order = rows[np.lexsort((draw[rows], codes[rows]))]
    count = np.bincount(codes[rows])
    rank = np.arange(len(order)) - (np.cumsum(count) - count)[codes[order]]
    cut_train = np.round(train * count)[codes[order]]
    cut_test = np.round((train + validation) * count)[codes[order]]
    in_train, in_test = rank < cut_train, rank >= cut_test
    details = f"{train:g} train, {validation:g} validation"
    return Split(
        data,
        np.concatenate([order[in_train], np.flatnonzero(~is_target)]),
        order[~in_train & ~in_test],
        order[in_test],
        protocol,
        seed,
        details,
    )


def _cold(
    data: Interactions, protocol: SplitProtocol, test: float, validation: float, seed: int
) -> Split:
    _check_shares(test=test, validation=validation)
    _check_not_empty(data)
    if protocol is SplitProtocol.COLD_USERS:
        what, tokens, codes = "users", data.user_ids, data.user_codes
    else:
        what, tokens, codes = "items", data.item_ids, data.item_codes
    size = len(tokens)
    by_token = np.argsort(tokens, kind="stable")
    drawn = by_token[np.random.default_rng(seed).permutation(size)]
    end_test = round(test * size)
    end_validation = round((test + validation) * size)
    if not 0 < end_test <= end_validation < size or (validation and end_test == end_validation):
        raise ValueError(
            f"`test`={test} and `validation`={validation} of {size} {what} leave a part empty; "
            "change the shares or use more data."
        )
    part = np.zeros(size, np.int8)
    part[drawn[:end_test]] = 2
    part[drawn[end_test:end_validation]] = 1
    is_target = _target(data)
    in_train, in_validation, in_test = (
        np.flatnonzero((part[codes] == number) & (is_target | (number == 0)))
        for number in (0, 1, 2)
    )
    if not len(in_test) or (validation and not len(in_validation)):
        raise ValueError(
            f"The held-out {what} have no target events; change the shares or use more data."
        )
    details = f"{test:g} test, {validation:g} validation"
    return Split(data, in_train, in_validation, in_test, protocol, seed, details)


def _check_shares(**shares: float) -> None:
    (first, share), *_ = shares.items()
    if not 0 < share < 1:
        raise ValueError(f"`{first}`={share}; use a share between 0 and 1.")
    if not 0 <= shares["validation"] < 1:
        raise ValueError(f"`validation`={shares['validation']}; use 0 or a share below 1.")
    if sum(shares.values()) >= 1:
        listed = " and ".join(f"`{name}`={value}" for name, value in shares.items())
        raise ValueError(f"{listed} leave nothing for the remaining part; keep their sum below 1.")


def _target(data: Interactions) -> np.ndarray:
    """bool [n], the events that may be held out: those of the target, or all events."""
    found = data.is_target
    if found is None:
        return np.ones(len(data), bool)
    if not found.any():
        assert data.feedback is not None
        raise ParameterError(
            f"`target`={list(data.feedback.target or ())}, but {data.name} has no such event, so "
            "that none could be held out. Split data that has some.",
            "target",
        )
    return found


def _check_not_empty(data: Interactions) -> None:
    if not len(data):
        raise ValueError(f"{data.name} has no events to split.")


def _times(data: Interactions, protocol: str) -> np.ndarray:
    _check_not_empty(data)
    times = data.times
    if times is None:
        raise ValueError(
            f"{protocol} needs times, but {data.name} has none; use split_by_user, or use "
            "the row numbers as times if the rows are in order."
        )
    return times
