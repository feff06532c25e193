"""What declared feedback says about the events of `Interactions`: weights, target and choices."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, Self

import numpy as np
import pyarrow as pa

from tfrec_meta.data.feedback import (
    TARGET,
    WEIGHT,
    Feedback,
    check_types,
    type_counts,
    with_columns,
)


class DeclaredEvents(ABC):
    """The part of `Interactions` that depends on declared feedback.

    Attributes:
        events: one row per event.
        feedback: how the events count; None if all count alike.
        name: the name of the data in messages.
    """

    events: pa.Table
    feedback: Feedback | None
    name: str

    @abstractmethod
    def take(self, rows: Any) -> Self:
        """Returns the events at `rows`, int indices or a bool mask."""

    @abstractmethod
    def _replaced(self, **changes: Any) -> Self:
        """Returns the same data with other values of these fields."""

    def with_feedback(self, feedback: Feedback) -> Self:
        """Declares how the events count, by their types and values.

        Returns:
            The same events with the column `weight` (float32: above 0 for a positive event, below 0
            for a known negative, 0 for an ignored event) and, with a target, `target` (bool).

        Raises:
            ParameterError: if a column is missing, a weight is not valid, the feedback names an
                event type without events, or an event has a type without a weight.
        """
        if self.feedback is not None:
            if self.feedback == feedback:
                return self
            raise ValueError(
                f"{self.name} has another feedback already; declare it once, for the data as read."
            )
        check_types(type_counts(self.events, feedback, self.name), feedback, self.name)
        events = with_columns(self.events, feedback, self.name)
        return self._replaced(events=events, feedback=feedback)

    @property
    def weights(self) -> np.ndarray | None:
        """Float32 [n], the column `weight` of `with_feedback`; None without feedback."""
        return None if self.feedback is None else self.events[WEIGHT].to_numpy()

    @property
    def is_target(self) -> np.ndarray | None:
        """Bool [n], whether validation and test are about an event; None without a target."""
        if self.feedback is None or self.feedback.target is None:
            return None
        return self.events[TARGET].to_numpy()

    @property
    def weights_vary(self) -> bool:
        """Whether two positive events, or two known negatives, have different weights."""
        weights = self.weights
        return weights is not None and any(
            np.ptp(part) > 0 for part in (weights[weights > 0], weights[weights < 0]) if len(part)
        )

    def with_equal_weights(self) -> Self:
        """Returns the events with weight 1 in place of each weight above 0, and -1 below 0."""
        weights = self.weights
        if self.feedback is None or weights is None:
            return self
        place = self.events.column_names.index(WEIGHT)
        signs = pa.array(np.sign(weights))
        return self._replaced(events=self.events.set_column(place, WEIGHT, signs))

    def positive_events(self) -> Self:
        """Returns the events with a weight above 0; all events without feedback."""
        return self._chosen(self.weights, lambda weights: weights > 0)

    def counted_events(self) -> Self:
        """Returns the positive events and known negatives; all events without feedback."""
        return self._chosen(self.weights, lambda weights: weights != 0)

    def seen_events(self) -> Self:
        """Returns the events whose items are not recommended again: those of the target.

        Without a target these are all events, known negatives and ignored ones included.
        """
        return self._chosen(self.is_target, lambda target: target)

    def _chosen(
        self, column: np.ndarray | None, condition: Callable[[np.ndarray], np.ndarray]
    ) -> Self:
        if column is None:
            return self
        rows = condition(column)
        return self if rows.all() else self.take(rows)
