"""Episodes: small learning problems, each with a support set to learn from and a query set to ask.

A task is a list of events: of one user, of one item, of the items of one category, of one window of
time. An episode draws both sets from one task; a batch holds many, padded to one width.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Literal

import numpy as np
import pyarrow as pa
import tensorflow as tf

from tfrec_meta.data import Interactions
from tfrec_meta.features import FeatureSpec, Vocabulary

Label = Literal["chosen", "value"]
Batch = dict[str, np.ndarray]


@dataclasses.dataclass(frozen=True)
class Tasks:
    """Events by task.

    Attributes:
        names: object [tasks], what each is about: a user, an item, a category, a window.
        events: int64 [n], event rows by task, in each task by time, then row.
        start: int64 [tasks + 1], where each task's events begin in `events`.
        user: int32 [rows], the user of each event row, 0 for one that the spec doesn't know.
        item: int32 [rows], likewise.
        label: float32 [rows].
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
        """int64 [tasks], how many events each has."""
        return np.diff(self.start)

    def take(self, chosen: np.ndarray) -> Tasks:
        """These tasks (int indices or a bool mask), in that order."""
        chosen = np.flatnonzero(chosen) if np.asarray(chosen).dtype == bool else np.asarray(chosen)
        parts = [self.events[self.start[task] : self.start[task + 1]] for task in chosen]
        events = np.concatenate([np.zeros(0, np.int64), *parts])
        start = np.concatenate([[0], np.cumsum(self.lengths[chosen])]).astype(np.int64)
        return dataclasses.replace(self, names=self.names[chosen], events=events, start=start)

    def first_items(self, chosen: np.ndarray, count: int) -> np.ndarray:
        """The item rows of the first `count` events of these tasks, int32 [T, count], 0 pads; a
        task's last event is never among them."""
        place = np.arange(count)[None, :]
        inside = place < self.lengths[chosen][:, None] - 1
        event = self.events[self.start[chosen][:, None] + np.where(inside, place, 0)]
        return np.where(inside, self.item[event], 0).astype(np.int32)

    def at_least(self, events: int) -> Tasks:
        """The tasks that have so many events."""
        return self.take(self.lengths >= events)

    def split(self, held_out: float = 0.2, seed: int = 42) -> tuple[Tasks, Tasks]:
        """Tasks to learn from, and tasks to judge by, which have no task and no event in common.

        Which are held out depends on names and seed, not on the order of the tasks. An event that
        is in tasks of both kinds, such as one with an item of two genres, is judged by and not
        learned from.

        Args:
            held_out: share of the tasks in (0, 1); at least one is on either side.
            seed: of the draw.

        Raises:
            ValueError: for another share, or fewer than two tasks.
        """
        if not 0 < held_out < 1:
            raise ValueError(f"`held_out`={held_out}; use a share between 0 and 1.")
        if len(self) < 2:
            raise ValueError(f"There are {len(self)} tasks; two are the least that can be split.")
        by_name = np.argsort(self.names.astype(str), kind="stable")
        drawn = np.random.default_rng(seed).permutation(by_name)
        count = min(max(round(held_out * len(self)), 1), len(self) - 1)
        return self._apart(np.isin(np.arange(len(self)), drawn[:count]))

    def leave_out(self, name: str) -> tuple[Tasks, Tasks]:
        """As `split`, with one task held out by its name.

        Raises:
            ValueError: if there is no such task.
        """
        if name not in self.names:
            raise ValueError(f"There is no task {name!r}; there are {', '.join(self.names[:20])}.")
        return self._apart(self.names == name)

    def _apart(self, held_out: np.ndarray) -> tuple[Tasks, Tasks]:
        judged = self.take(held_out)
        task = np.repeat(np.arange(len(self)), self.lengths)
        kept = ~held_out[task] & ~np.isin(self.events, judged.events)
        count = np.bincount(task[kept], minlength=len(self))[~held_out]
        start = np.concatenate([[0], np.cumsum(count)]).astype(np.int64)
        learned = dataclasses.replace(
            self, names=self.names[~held_out], events=self.events[kept], start=start
        )
        return learned, judged


def user_tasks(data: Interactions, spec: FeatureSpec, label: Label = "chosen") -> Tasks:
    """A task a user; an item that a user has twice counts at its first event.

    Args:
        data: events; those with items that the spec doesn't know are left out.
        spec: a fitted spec.
        label: "chosen" for 1 in each event, or "value" for its value.

    Raises:
        ValueError: for another label.
    """
    return _pair_tasks(data, spec, label, data.user_ids, data.user_codes, data.item_codes)


def item_tasks(data: Interactions, spec: FeatureSpec, label: Label = "chosen") -> Tasks:
    """A task an item; see `user_tasks`."""
    return _pair_tasks(data, spec, label, data.item_ids, data.item_codes, data.user_codes)


def category_tasks(
    data: Interactions, spec: FeatureSpec, attribute: str, label: Label = "chosen"
) -> Tasks:
    """A task a value of an item's attribute, such as a genre; see `user_tasks`.

    Args:
        data: events with an items table.
        spec: a fitted spec.
        attribute: a column of the items table, of strings or lists of strings. An item with several
            values is in several tasks.
        label: see `user_tasks`.

    Raises:
        ValueError: if there is no such column.
    """
    columns = [] if data.items is None else data.items.column_names
    if data.items is None or attribute not in columns:
        raise ValueError(f"The items table has no column `{attribute}`; it has {columns}.")
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
    # Each event once for each value of its item.
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
    """A task a window of time, named by the Unix second of its beginning; see `user_tasks`.

    Raises:
        ValueError: if the events have no times, or `seconds` is below 1.
    """
    if seconds < 1:
        raise ValueError(f"`seconds`={seconds}; use 1 or more.")
    if data.times is None:
        raise ValueError("The events have no times, so there are no windows of it.")
    begin, task = np.unique(data.times // seconds * seconds, return_inverse=True)
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
    place = np.lexsort(_keys(data, rows, task))
    start = np.concatenate([[0], np.cumsum(np.bincount(task, minlength=len(names)))])
    tasks = Tasks(
        names,
        rows[place],
        start.astype(np.int64),
        spec.users.encode(data.events["user_id"]),
        item,
        _labels(data, label),
    )
    return tasks.at_least(1)


def _by_time(data: Interactions, rows: np.ndarray, task: np.ndarray) -> np.ndarray:
    return rows[np.lexsort(_keys(data, rows, task))]


def _keys(data: Interactions, rows: np.ndarray, task: np.ndarray) -> tuple[np.ndarray, ...]:
    times = data.times
    return (rows, task) if times is None else (rows, times[rows], task)


def _labels(data: Interactions, label: Label) -> np.ndarray:
    if label == "chosen":
        return np.ones(len(data), np.float32)
    if label != "value":
        raise ValueError(f"`label`={label!r}; use 'chosen' or 'value'.")
    return data.events["value"].to_numpy().astype(np.float32)


@dataclasses.dataclass(frozen=True)
class EpisodeConfig:
    """How a task becomes an episode.

    Args:
        shots: fewest and most events of a support set; each episode draws how many. 0 is zero-shot.
        spacing: "even" draws each number alike; "log" few shots more often, as their logarithm is
            drawn evenly.
        query: most events of a query set.
        order: "time" learns from a task's first events and asks about later ones; "random" draws
            both.
        same_query: whether a task's query set is the same for any number of shots: it follows the
            most shots that there may be, or as many as leave one event to ask about.
        tasks_per_batch: T.
        seed: of all draws.
    """

    shots: tuple[int, int] = (1, 20)
    spacing: Literal["even", "log"] = "even"
    query: int = 20
    order: Literal["time", "random"] = "time"
    same_query: bool = False
    tasks_per_batch: int = 32
    seed: int = 42

    def __post_init__(self) -> None:
        fewest, most = self.shots
        if not 0 <= fewest <= most or most < 1:
            raise ValueError(f"`shots`={self.shots}; use 0 <= fewest <= most, and a most above 0.")
        for name in ("query", "tasks_per_batch"):
            if getattr(self, name) < 1:
                raise ValueError(f"`{name}`={getattr(self, name)}; use 1 or more.")
        if self.order not in ("time", "random"):
            raise ValueError(f"`order`={self.order!r}; use 'time' or 'random'.")
        if self.spacing not in ("even", "log"):
            raise ValueError(f"`spacing`={self.spacing!r}; use 'even' or 'log'.")


class Episodes:
    """Batches of episodes, drawn anew in each epoch and the same again with the same seed.

    Tasks with no more events than the fewest of a support set have nothing left to ask; they are
    left out.

    Args:
        tasks: what to draw from.
        config: how.

    Attributes:
        tasks: those that are large enough.
        left_out: how many were not.

    Raises:
        ValueError: if no task is large enough.
    """

    def __init__(self, tasks: Tasks, config: EpisodeConfig = EpisodeConfig()):
        self.config = config
        self.tasks = tasks.at_least(config.shots[0] + 1)
        self.left_out = len(tasks) - len(self.tasks)
        if not len(self.tasks):
            raise ValueError(
                f"`shots`={config.shots}, but none of {len(tasks)} tasks has more than "
                f"{config.shots[0]} events. Lower the fewest shots."
            )

    def __len__(self) -> int:
        """Batches an epoch."""
        return -(-len(self.tasks) // self.config.tasks_per_batch)

    def epoch(self, number: int = 0) -> Iterator[Batch]:
        """Every task once, in batches.

        Yields:
            task int32 [T], the row in `tasks.names`; and for "support" (width S, the most shots)
            and "query" (width Q): <set>_user and <set>_item int32 [T, width], <set>_label float32
            [T, width], all 0 in padding, and <set>_mask float32 [T, width], 1 where an event is.
        """
        rng = np.random.default_rng([self.config.seed, number])
        order = rng.permutation(len(self.tasks))
        for first in range(0, len(order), self.config.tasks_per_batch):
            yield self.draw(order[first : first + self.config.tasks_per_batch], rng)

    def draw(self, chosen: np.ndarray, rng: np.random.Generator) -> Batch:
        """One episode of each of these tasks, as `epoch` yields them."""
        (fewest, most), query = self.config.shots, self.config.query
        chosen = np.asarray(chosen)
        length = self.tasks.lengths[chosen]
        cut = np.minimum(most, length - 1)
        if self.config.spacing == "even":
            shots = rng.integers(fewest, cut + 1)
        else:
            drawn_log = rng.uniform(np.log(fewest + 1), np.log(cut + 2))
            shots = np.clip(np.exp(drawn_log).astype(np.int64) - 1, fewest, cut)
        if not self.config.same_query:
            cut = shots
        place = np.arange(length.max(initial=1))[None, :]
        key = rng.random((len(chosen), place.shape[1]))
        if self.config.order == "time":
            key = np.where(place < cut[:, None], place - cut[:, None], key)
        key = np.where(place < length[:, None], key, 2.0)
        drawn = np.argsort(key, axis=1)
        batch: Batch = {"task": chosen.astype(np.int32)}
        for name, begin, count, width in (
            ("support", np.zeros_like(shots), shots, most),
            ("query", cut, np.minimum(length - cut, query), query),
        ):
            step = np.arange(width)[None, :]
            inside = step < count[:, None]
            at = np.minimum(begin[:, None] + step, drawn.shape[1] - 1)
            event = np.where(inside, np.take_along_axis(drawn, at, axis=1), 0)
            event = self.tasks.events[self.tasks.start[chosen][:, None] + event]
            for column in ("user", "item", "label"):
                values = getattr(self.tasks, column)[event]
                batch[f"{name}_{column}"] = np.where(inside, values, values.dtype.type(0))
            batch[f"{name}_mask"] = inside.astype(np.float32)
        return batch

    def dataset(self, epochs: int = 1, first: int = 0) -> tf.data.Dataset:
        """`epochs` epochs from number `first` on, as tensors, the next batch drawn meanwhile."""
        widths = {"support": self.config.shots[1], "query": self.config.query}
        signature = {"task": tf.TensorSpec([None], tf.int32)}
        for name, width in widths.items():
            for column in ("user", "item", "label", "mask"):
                kind = tf.int32 if column in ("user", "item") else tf.float32
                signature[f"{name}_{column}"] = tf.TensorSpec([None, width], kind)

        def batches() -> Iterator[Batch]:
            for number in range(first, first + epochs):
                yield from self.epoch(number)

        return tf.data.Dataset.from_generator(batches, output_signature=signature).prefetch(2)
