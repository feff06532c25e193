"""Minimum numbers of events per user and item, with Beam.

Whether a user has enough events depends on the items of all other users, in each round. Therefore
all partitions send their events to one worker, as codes of users and items, and receive which of
their events to remove. That worker needs some 60 bytes of memory per event.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import apache_beam as beam
import numpy as np
import pyarrow as pa

from tfrec_meta.data.cleaning import CleaningRules, Removal, too_few
from tfrec_meta.data.feedback import Feedback
from tfrec_meta.features import transform as names
from tfrec_meta.pipeline.rows.cleaning import survey_of_targets
from tfrec_meta.pipeline.rows.counters import count_removed
from tfrec_meta.pipeline.rows.partitions import deserialized, serialized

_KEPT = 0  # a mark of an event; others are positions of reasons, from 1


class Minimums(beam.PTransform):
    """Removes the events of users and items with too few of them, as `clean_events` does.

    From (partition, events) pairs it makes the output "rows", the same with fewer events, and the
    output "survey", the surveys of the rest.
    """

    def __init__(self, rules: CleaningRules, feedback: Feedback | None):
        super().__init__()
        self._rules = rules
        self._feedback = feedback

    def expand(self, cleaned: beam.PCollection) -> beam.PCollection:
        marks = (
            cleaned
            | "Codes" >> beam.MapTuple(_codes)
            | "All" >> beam.combiners.ToList()
            | "Count" >> beam.Map(_marks, self._rules)
        )
        return cleaned | "Keep" >> beam.ParDo(
            _Keep(self._feedback), beam.pvalue.AsSingleton(marks)
        ).with_outputs("survey", main="rows")


class _Keep(beam.DoFn):
    """Removes the marked events of one partition."""

    def __init__(self, feedback: Feedback | None):
        self._feedback = feedback

    def process(
        self,
        part: tuple[int, bytes],
        marks: tuple[Sequence[str], Mapping[int, np.ndarray]],
    ) -> Iterator:
        partition, packed = part
        reasons, of_partition = marks
        mark = of_partition[partition]
        found = np.bincount(mark, minlength=len(reasons) + 1)[1:]
        counts = zip(reasons, found.tolist(), strict=True)
        # The rows were counted before.
        count_removed(Removal(0, {reason: count for reason, count in counts if count}))
        events = deserialized(packed).filter(pa.array(mark == _KEPT))
        if events.num_rows:
            yield partition, serialized(events)
        yield beam.pvalue.TaggedOutput("survey", survey_of_targets(events, self._feedback))


def _codes(partition: int, packed: bytes) -> tuple[int, bytes]:
    """Returns the users and items of a partition's events; users have a code of the partition."""
    events = deserialized(packed)
    users = events[names.USER_ID].combine_chunks().dictionary_encode().indices
    items = events[names.ITEM_ID].combine_chunks().dictionary_encode()
    return partition, serialized(pa.table({"user": users, "item": items}))


def _marks(
    parts: Sequence[tuple[int, bytes]], rules: CleaningRules
) -> tuple[list[str], dict[int, np.ndarray]]:
    """Returns the reasons, and the mark of each event by partition, int8 [n]."""
    tables = {partition: deserialized(packed) for partition, packed in parts}
    if not tables:
        return [], {}
    users, first = [], 0
    for table in tables.values():
        codes = table["user"].to_numpy()
        users.append(codes.astype(np.int64) + first)
        first += int(codes.max()) + 1
    items = pa.chunked_array([chunk for t in tables.values() for chunk in t["item"].chunks])
    item_codes = np.concatenate([c.indices.to_numpy() for c in items.unify_dictionaries().chunks])
    removed = too_few(np.concatenate(users), item_codes, rules)
    marks = np.full(len(item_codes), _KEPT, np.int8)
    for number, few in enumerate(removed.values(), start=1):
        marks[few] = number
    ends = np.cumsum([table.num_rows for table in tables.values()])
    return list(removed), dict(zip(tables, np.split(marks, ends[:-1]), strict=True))
