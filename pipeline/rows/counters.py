"""Beam's counters of the rows that Histories drops, by reason."""

from __future__ import annotations

from typing import Any

import apache_beam as beam

from tfrec_meta.data.cleaning import REASONS, Removal

# Namespaces: rows of users and items, and events that cleaning removes.
INVALID = "tfrec_meta.histories"
REMOVED = "tfrec_meta.cleaning"
_ROWS, _FAR_TIMES = "rows", "far_times"  # of `Removal`


def count(namespace: str, name: str, rows: int) -> None:
    """Adds to a counter, in a worker."""
    beam.metrics.Metrics.counter(namespace, name).inc(rows)


def count_removed(removed: Removal) -> None:
    """Adds what cleaning removed from some events to the counters, in a worker."""
    count(REMOVED, _ROWS, removed.rows)
    count(REMOVED, _FAR_TIMES, removed.far_times)
    for reason, rows in removed.dropped.items():
        count(REMOVED, reason, rows)


def counted_rows(result: Any, namespace: str) -> dict[str, int]:
    """Returns the workers' counts of a namespace, by name."""
    found = result.metrics().query(beam.metrics.MetricsFilter().with_namespace(namespace))
    counts: dict[str, int] = {}
    for counter in found["counters"]:
        rows = counter.committed if counter.committed is not None else counter.attempted
        counts[counter.key.metric.name] = counts.get(counter.key.metric.name, 0) + rows
    return dict(sorted(counts.items()))


def removal(result: Any) -> Removal:
    """Returns what cleaning removed."""
    counts = counted_rows(result, REMOVED)
    dropped = {reason: counts[reason] for reason in REASONS if counts.get(reason)}
    return Removal(counts.get(_ROWS, 0), dropped, counts.get(_FAR_TIMES, 0))
