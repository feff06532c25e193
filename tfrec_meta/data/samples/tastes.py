"""Known tastes, and the choices that follow them."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np
import pyarrow as pa

START = np.datetime64("2024-06-03T00:00:00")  # a Monday
DAY = 86_400  # seconds
_CHUNK = 4096  # events handled at a time, each with a row of all items


@dataclasses.dataclass(frozen=True)
class Tastes:
    """Users who prefer some topics, and items of one topic each.

    Attributes:
        topics: the names of the topics.
        share: float64 [users, topics], the topics that a user chooses; each row sums to 1.
        topic: int64 [items], the topic of each item.
        appeal: float64 [items], how often an item is chosen among those of its topic.
    """

    topics: Sequence[str]
    share: np.ndarray
    topic: np.ndarray
    appeal: np.ndarray

    @classmethod
    def draw(
        cls, rng: np.random.Generator, topics: Sequence[str], users: int, items: int
    ) -> Tastes:
        """Draws users with one or two favourite topics, and items with a tail of appeal."""
        return cls(
            topics,
            rng.dirichlet(np.full(len(topics), 0.2), users),
            rng.permutation(np.arange(items) % len(topics)),
            (1.0 + rng.permutation(items)) ** -0.7,
        )

    def choose(
        self, rng: np.random.Generator, user: np.ndarray, chance: np.ndarray | None = None
    ) -> np.ndarray:
        """Draws an item for each event by the taste of its user.

        Args:
            rng: the random numbers.
            user: int64 [n], rows of `share`.
            chance: float64 [items], a factor of each item, such as 0 for what is not offered.

        Returns:
            int64 [n].
        """
        appeal = self.appeal if chance is None else self.appeal * chance
        found = np.empty(len(user), np.int64)
        for start in range(0, len(user), _CHUNK):
            rows = slice(start, start + _CHUNK)
            weight = self.share[user[rows]][:, self.topic] * appeal
            steps = np.cumsum(weight, axis=1)
            drawn = rng.random(len(steps)) * steps[:, -1]
            found[rows] = (steps <= drawn[:, None]).sum(axis=1)
        return found

    def choose_shown(self, rng: np.random.Generator, count: int) -> np.ndarray:
        """Draws items as a home page shows them: by their appeal alone. Returns int64 [count]."""
        return rng.choice(len(self.appeal), count, p=self.appeal / self.appeal.sum())

    def choose_half_shown(self, rng: np.random.Generator, user: np.ndarray) -> np.ndarray:
        """Draws half of the events by `choose_shown`, and half by taste. Returns int64 [n].

        Args:
            rng: the random numbers.
            user: int64 [n], the user of each event.
        """
        shown = self.choose_shown(rng, len(user))
        return np.where(rng.random(len(user)) < 0.5, shown, self.choose(rng, user))

    def fit(self, user: np.ndarray, item: np.ndarray) -> np.ndarray:
        """Returns float64 [n] in [0, 1]: the share of the item's topic in the user's taste."""
        fits: np.ndarray = self.share[user, self.topic[item]]
        return fits

    def names(self, item: np.ndarray | None = None) -> list[str]:
        """Returns the names of the topics of items, by default of all items."""
        rows = self.topic if item is None else self.topic[item]
        return [self.topics[row] for row in rows]


def titles(
    rng: np.random.Generator, words: Mapping[str, str], topics: Sequence[str], length: int = 3
) -> list[str]:
    """Returns a title for each item, of words of its topic.

    Args:
        rng: the random numbers.
        words: the words of each topic, separated by blanks.
        topics: the topic of each item.
        length: words per title.
    """
    return [
        " ".join(rng.choice(words[topic].split(), length, replace=False)).capitalize()
        for topic in topics
    ]


def ids(prefix: str, numbers: np.ndarray) -> list[str]:
    """Returns ids such as "c17"."""
    return [f"{prefix}{number}" for number in numbers]


def active_users(rng: np.random.Generator, users: int, count: int) -> np.ndarray:
    """Draws the user of each event; some are more active than others. Returns int64 [count]."""
    weight = rng.lognormal(0.0, 0.6, users)
    return rng.choice(users, count, p=weight / weight.sum())


def log(seconds: np.ndarray, columns: Mapping[str, Sequence[str] | np.ndarray]) -> pa.Table:
    """Returns events in the order of time, with the column `time` first.

    Args:
        seconds: float64 [n], since `START`.
        columns: the other columns, in the order of `seconds`.
    """
    order = np.argsort(seconds, kind="stable")
    times = START + seconds.astype(np.int64).astype("timedelta64[s]")
    table = pa.table({"time": pa.array(np.datetime_as_string(times)), **columns})
    return table.take(pa.array(order))
