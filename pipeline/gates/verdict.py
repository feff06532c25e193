"""The verdict of the ranking gate: a value that the gate writes and the pages read.

This module imports neither TFX nor TensorFlow, so that the page of a run is written quickly. The
rules by which a verdict is reached are in `blessing_rules`.
"""

from __future__ import annotations

import dataclasses
import enum
from collections.abc import Mapping
from typing import Any

from tfrec_meta.pipeline.config_values import config_from

VERDICT_FILE = "verdict.json"  # `Verdict.as_dict`, and what the gate adds to it
VERDICT_PAGE = "verdict.html"

_SHOWN = {"ndcg": "NDCG", "recall": "recall", "auc": "AUC"}


class SliceName(enum.StrEnum):
    """A slice of every comparison. Reports store the value.

    A slice of the users with one value of a column is stored as "<column>=<value>".
    """

    ALL_USERS = "all_users"
    NEW_USERS = "new_users"
    LONG_TAIL_ITEMS = "long_tail_items"

    @property
    def label(self) -> str:
        """The slice in a sentence."""
        return _SLICES[self]


_SLICES = {
    SliceName.ALL_USERS: "all users",
    SliceName.NEW_USERS: "new users",
    SliceName.LONG_TAIL_ITEMS: "long-tail items",
}


class Reference(enum.StrEnum):
    """What a candidate is compared with. Reports store the value."""

    POPULARITY = "popularity"
    LAST_BLESSED = "last_blessed_model"
    THRESHOLD = "threshold"

    @property
    def words(self) -> str:
        """The reference in a sentence."""
        return _REFERENCES[self]


_REFERENCES = {
    Reference.POPULARITY: "popularity",
    Reference.LAST_BLESSED: "the last blessed model",
    Reference.THRESHOLD: "the threshold",
}


class Outcome(enum.StrEnum):
    """The outcome of a check. Reports store the value."""

    PASSED = "passed"
    FAILED = "failed"
    INCONCLUSIVE = "inconclusive"  # too few users; does not block the model


@dataclasses.dataclass(frozen=True)
class Check:
    """One comparison of the model.

    Attributes:
        slice: a `SliceName`, or "<column>=<value>".
        metric: such as "ndcg@10".
        against: the reference.
        users: number of users with a value for both.
        model: the candidate's mean over them; None without users.
        other: the reference's mean, or the threshold.
        difference, low, high: mean of the paired differences and its interval; None for a
            threshold.
        confidence: confidence level of the interval.
        outcome: the outcome.
        words: the result in a sentence, without the final period.

    Raises:
        ValueError: for an unknown reference or outcome.
    """

    slice: str
    metric: str
    against: Reference
    users: int
    model: float | None
    other: float | None
    difference: float | None
    low: float | None
    high: float | None
    confidence: float | None
    outcome: Outcome
    words: str

    def __post_init__(self) -> None:
        object.__setattr__(self, "against", Reference(self.against))
        object.__setattr__(self, "outcome", Outcome(self.outcome))


@dataclasses.dataclass(frozen=True)
class Verdict:
    """Whether the model is blessed, and why.

    Attributes:
        blessed: whether the model may be pushed.
        words: the reasons, in a sentence.
        checks: all comparisons.
        notes: further remarks for people.
    """

    blessed: bool
    words: str
    checks: tuple[Check, ...] = ()
    notes: tuple[str, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """Returns plain values for JSON; `from_dict` reads them."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, record: Any) -> Verdict:
        """Reads what `as_dict` returned; other keys of the record are ignored.

        Raises:
            ValueError: if the record is damaged; the message names the value.
        """
        if not isinstance(record, Mapping):
            raise ValueError(f"The verdict is damaged: {record!r} is not a mapping.")
        names = [field.name for field in dataclasses.fields(cls)]
        try:
            return config_from(cls, {name: record[name] for name in names if name in record})
        except ValueError as error:
            raise ValueError(f"The verdict is damaged: {error}") from None


def shown_slice(name: str) -> str:
    """Returns the name of a slice for people: "new users" for "new_users"."""
    return next((known.label for known in SliceName if known == name), name)


def shown_metric(metric: str) -> str:
    """Returns the name of a metric for people: "NDCG@10" for "ndcg@10"."""
    base, at, cut = metric.partition("@")
    return _SHOWN[base] + at + cut
