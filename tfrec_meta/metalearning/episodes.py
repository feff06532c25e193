"""Episodes: small learning problems with a support set to learn from and a query set to predict.

An episode draws both sets from one task (see `tasks.py`). A batch holds several episodes, padded to
the same width.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Literal

import numpy as np
import tensorflow as tf

from tfrec_meta.checks import PositiveInt, check_fields
from tfrec_meta.errors import ParameterError
from tfrec_meta.metalearning.tasks import Tasks

Batch = dict[str, np.ndarray]


@dataclasses.dataclass(frozen=True)
class EpisodeConfig:
    """How episodes are drawn from tasks.

    Args:
        shots: smallest and largest number of support events; each episode draws a number. 0 is
            zero-shot.
        spacing: how the number is drawn: "even" uniformly, "log" uniformly in its logarithm, which
            gives small numbers more often.
        query: largest number of query events.
        order: "time" uses the first events of a task as support and later ones as query; "random"
            draws both at random.
        same_query: whether the query set of a task is independent of the number of shots. It then
            begins after the largest number of shots, or before the last event of a shorter task.
        tasks_per_batch: number of tasks T in a batch.
        seed: seed of all draws.
    """

    shots: tuple[int, int] = (1, 20)
    spacing: Literal["even", "log"] = "even"
    query: PositiveInt = 20
    order: Literal["time", "random"] = "time"
    same_query: bool = False
    tasks_per_batch: PositiveInt = 32
    seed: int = 42

    def __post_init__(self) -> None:
        check_fields(self)
        smallest, largest = self.shots
        if not 0 <= smallest <= largest or largest < 1:
            raise ParameterError(
                f"`shots`={self.shots}; use (smallest, largest) with 0 <= smallest <= largest and "
                "largest above 0.",
                "shots",
            )


class Episodes:
    """Batches of episodes. Each epoch draws new ones; the same seed draws the same ones.

    Tasks that have no event left for the query set are left out.

    Args:
        tasks: the tasks to draw from.
        config: how episodes are drawn.

    Attributes:
        tasks: the tasks that have enough events.
        left_out: number of tasks with too few events.

    Raises:
        ValueError: if no task has enough events.
    """

    def __init__(self, tasks: Tasks, config: EpisodeConfig = EpisodeConfig()):
        self.config = config
        self.tasks = tasks.at_least(config.shots[0] + 1)
        self.left_out = len(tasks) - len(self.tasks)
        if not len(self.tasks):
            raise ParameterError(
                f"`shots`={config.shots}, but none of {len(tasks)} tasks has more than "
                f"{config.shots[0]} events. Lower the minimum of `shots`.",
                "shots",
            )

    def __len__(self) -> int:
        """Number of batches per epoch."""
        return -(-len(self.tasks) // self.config.tasks_per_batch)

    def epoch(self, number: int = 0) -> Iterator[Batch]:
        """Draws one episode of each task, in batches.

        Yields:
            task int32 [T], the row in `tasks.names`; and for "support" (width S, the largest number
            of shots) and "query" (width Q): <set>_user and <set>_item int32 [T, width], <set>_label
            float32 [T, width], all padded with 0, and <set>_mask float32 [T, width], 1 at events.
        """
        rng = np.random.default_rng([self.config.seed, number])
        order = rng.permutation(len(self.tasks))
        for first in range(0, len(order), self.config.tasks_per_batch):
            yield self.draw(order[first : first + self.config.tasks_per_batch], rng)

    def draw(self, chosen: np.ndarray, rng: np.random.Generator) -> Batch:
        """Draws one episode of each of the chosen tasks; see `epoch` for the format."""
        (smallest, largest), query = self.config.shots, self.config.query
        chosen = np.asarray(chosen)
        length = self.tasks.lengths[chosen]
        cut = np.minimum(largest, length - 1)
        if self.config.spacing == "even":
            shots = rng.integers(smallest, cut + 1)
        else:
            drawn_log = rng.uniform(np.log(smallest + 1), np.log(cut + 2))
            shots = np.clip(np.exp(drawn_log).astype(np.int64) - 1, smallest, cut)
        if not self.config.same_query:
            cut = shots
        position = np.arange(length.max(initial=1))[None, :]
        key = rng.random((len(chosen), position.shape[1]))
        if self.config.order == "time":
            key = np.where(position < cut[:, None], position - cut[:, None], key)
        key = np.where(position < length[:, None], key, 2.0)
        drawn = np.argsort(key, axis=1)
        batch: Batch = {"task": chosen.astype(np.int32)}
        for name, begin, count, width in (
            ("support", np.zeros_like(shots), shots, largest),
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
        """Returns the batches of `epochs` epochs, starting with epoch number `first`.

        The next batch is drawn while the current one is used.
        """
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
