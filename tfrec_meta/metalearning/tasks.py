"""Tasks: the events of one user, one item, one category of items, or one window of time."""

from __future__ import annotations

import dataclasses
from typing import Literal

import numpy as np
import pyarrow as pa

from tfrec_meta.data import Interactions
from tfrec_meta.errors import ParameterError
from tfrec_meta.features import FeatureSpec, Vocabulary

Label = Literal["chosen", "value"]


@dataclasses.dataclass(frozen=True)
class Tasks:
    """Events grouped by task.

    Attributes:
        names: object [tasks], the user, item, category or window of each task.
        events: int64 [n], event rows by task; within a task by time, then row.
        start: int64 [tasks + 1], where the events of each task begin in `events`.
        user: int32 [rows], the user of each event row, 0 for unknown users.
        item: int32 [rows], the item of each event row, 0 for unknown items.
        label: float32 [rows], the label of each event row.
    """

    names: np.ndarray
    events: np.ndarray
    start: np.ndarray
    user: np.ndarray
    item: np.ndarray
    label: np.ndarray

    def __len__(self) -> int:
        return len(self.names)

    @property
    def lengths(self) -> np.ndarray:
        """int64 [tasks], number of events of each task."""
        return np.diff(self.start)

    def take(self, chosen: np.ndarray) -> Tasks:
        """Returns the chosen tasks (int indices or a bool mask), in that order."""
        chosen = np.flatnonzero(chosen) if np.asarray(chosen).dtype == bool else np.asarray(chosen)
        parts = [self.events[self.start[task] : self.start[task + 1]] for task in chosen]
        events = np.concatenate([np.zeros(0, np.int64), *parts])
        start = np.concatenate([[0], np.cumsum(self.lengths[chosen])]).astype(np.int64)
        return dataclasses.replace(self, names=self.names[chosen], events=events, start=start)

    def first_items(self, chosen: np.ndarray, count: int) -> np.ndarray:
        """Returns the item rows of the first `count` events of each task, without its last event.

        Args:
            chosen: int [T], indices of tasks.
            count: number of events.

        Returns:
            int32 [T, count], padded with 0.
        """
        position = np.arange(count)[None, :]
        inside = position < self.lengths[chosen][:, None] - 1
        event = self.events[self.start[chosen][:, None] + np.where(inside, position, 0)]
        return np.where(inside, self.item[event], 0).astype(np.int32)

    def at_least(self, events: int) -> Tasks:
        """Returns the tasks with `events` events or more."""
        return self.take(self.lengths >= events)

    def split(self, held_out: float = 0.2, seed: int = 42) -> tuple[Tasks, Tasks]:
        """Splits tasks into training tasks and test tasks without common events.

        The split depends on names and seed, not on the order of the tasks. An event in tasks of
        both kinds, such as one of an item with two genres, is used for testing only.

        Args:
            held_out: share of test tasks in (0, 1); there is at least one task on each side.
            seed: seed of the draw.

        Returns:
            Training tasks and test tasks.

        Raises:
            ValueError: if the share is out of range, or there are fewer than two tasks.
        """
        if not 0 < held_out < 1:
            raise ParameterError(f"`held_out`={held_out}; use a share between 0 and 1.", "held_out")
        if len(self) < 2:
            raise ValueError(
                f"A split needs at least 2 tasks; the data has {len(self)}. Use more data."
            )
        by_name = np.argsort(self.names.astype(str), kind="stable")
        drawn = np.random.default_rng(seed).permutation(by_name)
        count = min(max(round(held_out * len(self)), 1), len(self) - 1)
        return self._separate(np.isin(np.arange(len(self)), drawn[:count]))

    def leave_out(self, name: str) -> tuple[Tasks, Tasks]:
        """Like `split`, with a single test task, given by its name.

        Raises:
            ValueError: if there is no task of that name.
        """
        if name not in self.names:
            raise ParameterError(
                f"`name`={name!r}; use the name of a task: {', '.join(self.names[:20])}.", "name"
            )
        return self._separate(self.names == name)

    def _separate(self, held_out: np.ndarray) -> tuple[Tasks, Tasks]:
        test = self.take(held_out)
        task = np.repeat(np.arange(len(self)), self.lengths)
        in_training = ~held_out[task] & ~np.isin(self.events, test.events)
        count = np.bincount(task[in_training], minlength=len(self))[~held_out]
        start = np.concatenate([[0], np.cumsum(count)]).astype(np.int64)
        training = dataclasses.replace(
            self, names=self.names[~held_out], events=self.events[in_training], start=start
        )
        return training, test


def user_tasks(data: Interactions, spec: FeatureSpec, label: Label = "chosen") -> Tasks:
    """Returns one task per user. Each item of a user counts once, at its first event.

    Args:
        data: events; those with unknown items are left out.
        spec: a fitted spec.
        label: "chosen" labels every positive event with 1 and leaves out other events, "value"
            labels every event with its value.

    Raises:
        ValueError: for an unknown label.
    """
    data = _labelled(data, label)
    return _pair_tasks(data, spec, label, data.user_ids, data.user_codes, data.item_codes)


def item_tasks(data: Interactions, spec: FeatureSpec, label: Label = "chosen") -> Tasks:
    """Returns one task per item; see `user_tasks`."""
    data = _labelled(data, label)
    return _pair_tasks(data, spec, label, data.item_ids, data.item_codes, data.user_codes)


def category_tasks(
    data: Interactions, spec: FeatureSpec, attribute: str, label: Label = "chosen"
) -> Tasks:
    """Returns one task per value of an item attribute, such as a genre; see `user_tasks`.

    Args:
        data: events with an items table.
        spec: a fitted spec.
        attribute: a column of the items table, of strings or lists of strings. Events of an item
            with several values are in several tasks.
        label: see `user_tasks`.

    Raises:
        ValueError: if the items table lacks the column.
    """
    data = _labelled(data, label)
    columns = [] if data.items is None else data.items.column_names
    if data.items is None or attribute not in columns:
        raise ParameterError(
            f"`attribute`={attribute!r}; use a column of the items table: {columns}.", "attribute"
        )
    column = data.items[attribute].combine_chunks()
    if pa.types.is_list(column.type):
        owner = np.repeat(np.arange(len(column)), column.value_lengths().fill_null(0).to_numpy())
        values = column.flatten()
    else:
        owner, values = np.arange(len(column)), column
    tokens = np.array(values.cast(pa.string()).fill_null("").to_pylist(), object)
    owner, tokens = owner[tokens != ""], tokens[tokens != ""]
    names, code = np.unique(tokens.astype(str), return_inverse=True)
    known = Vocabulary(data.items["item_id"].combine_chunks()).encode(data.events["item_id"]) - 1
    # Each event is repeated for each value of its item.
    order = np.argsort(owner, kind="stable")
    first = np.searchsorted(owner[order], np.arange(len(column) + 1))
    count = np.where(known >= 0, np.diff(first)[known], 0)
    rows = np.repeat(np.arange(len(data)), count)
    within = np.arange(len(rows)) - np.repeat(np.cumsum(count) - count, count)
    task = code[order][first[known[rows]] + within]
    return _tasks(data, spec, label, names.astype(object), rows, task)


def window_tasks(
    data: Interactions, spec: FeatureSpec, seconds: int, label: Label = "chosen"
) -> Tasks:
    """Returns one task per window of time, named by the Unix second of its start; see `user_tasks`.

    Raises:
        ValueError: if the events have no times, or `seconds` is below 1.
    """
    if seconds < 1:
        raise ParameterError(f"`seconds`={seconds}; use 1 or more.", "seconds")
    data = _labelled(data, label)
    times = data.times
    if times is None:
        raise ValueError("The events have no times. Use data with a `time` column.")
    begin, task = np.unique(times // seconds * seconds, return_inverse=True)
    names = np.array([str(second) for second in begin], object)
    return _tasks(data, spec, label, names, np.arange(len(data)), task)


def _pair_tasks(
    data: Interactions,
    spec: FeatureSpec,
    label: Label,
    names: np.ndarray,
    task: np.ndarray,
    other: np.ndarray,
) -> Tasks:
    order = _by_time(data, np.arange(len(data)), task)
    pair = task.astype(np.int64) * (int(other.max(initial=0)) + 1) + other
    _, first = np.unique(pair[order], return_index=True)
    rows = order[np.sort(first)]
    return _tasks(data, spec, label, names, rows, task[rows])


def _tasks(
    data: Interactions,
    spec: FeatureSpec,
    label: Label,
    names: np.ndarray,
    rows: np.ndarray,
    task: np.ndarray,
) -> Tasks:
    item = spec.items.encode(data.events["item_id"])
    known = item[rows] > 0
    rows, task = rows[known], task[known]
    by_task = np.lexsort(_sort_keys(data, rows, task))
    start = np.concatenate([[0], np.cumsum(np.bincount(task, minlength=len(names)))])
    tasks = Tasks(
        names,
        rows[by_task],
        start.astype(np.int64),
        spec.users.encode(data.events["user_id"]),
        item,
        _labels(data, label),
    )
    return tasks.at_least(1)


def _by_time(data: Interactions, rows: np.ndarray, task: np.ndarray) -> np.ndarray:
    return rows[np.lexsort(_sort_keys(data, rows, task))]


def _sort_keys(data: Interactions, rows: np.ndarray, task: np.ndarray) -> tuple[np.ndarray, ...]:
    times = data.times
    return (rows, task) if times is None else (rows, times[rows], task)


def _labelled(data: Interactions, label: Label) -> Interactions:
    """The events that a task has: with the label "chosen" the positive ones only."""
    return data.positive_events() if label == "chosen" else data


def _labels(data: Interactions, label: Label) -> np.ndarray:
    if label == "chosen":
        return np.ones(len(data), np.float32)
    if label != "value":
        raise ParameterError(f"`label`={label!r}; use 'chosen' or 'value'.", "label")
    return data.events["value"].to_numpy().astype(np.float32)
