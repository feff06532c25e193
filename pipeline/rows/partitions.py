"""Partitions of the users, and tables as bytes, for Beam."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from tfrec_meta.data.ids import DECIMALS
from tfrec_meta.features import transform as names
from tfrec_meta.pipeline.rows.surveys import TYPES
from tfrec_meta.pipeline.table_columns import Kind


def by_partition(
    table: pa.Table, partitions: int, key: str = names.USER_ID
) -> Iterator[tuple[int, pa.Table]]:
    """Yields each partition of the users that has rows, with its rows.

    10 and 10.0 are in one partition, since they may be one user.

    Args:
        table: rows with text in the column `key`.
        partitions: number of partitions; with 1, no key is looked at.
        key: the column of the ids that are divided.
    """
    if partitions == 1:
        yield 0, table
        return
    coded = table[key].combine_chunks().dictionary_encode()
    users = pc.replace_substring_regex(coded.dictionary, DECIMALS, "").to_pylist()
    partition = np.array([token_hash(user, "") % partitions for user in users])
    if not len(partition):
        return
    row_partition = partition[coded.indices.to_numpy()]
    order = np.argsort(row_partition, kind="stable")
    ends = np.cumsum(np.bincount(row_partition, minlength=partitions))
    ordered = table.take(pa.array(order))
    for number, end in enumerate(ends):
        start = ends[number - 1] if number else 0
        if end > start:
            yield number, ordered.slice(start, end - start)


def token_hash(token: str, key: str) -> int:
    """Returns 64 bits that are the same in every process, version and platform."""
    digest = hashlib.blake2b(token.encode(), digest_size=8, key=key.encode()).digest()
    return int.from_bytes(digest, "little")


def serialized(table: pa.Table) -> bytes:
    """Returns a table as bytes, for Beam."""
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return sink.getvalue().to_pybytes()


def deserialized(packed: bytes) -> pa.Table:
    """Returns the table of `serialized`."""
    return pa.ipc.open_stream(packed).read_all()


def joined(packed: Sequence[bytes], kinds: Mapping[str, Kind]) -> pa.Table:
    """Returns one table of all; columns of data-dependent type become lists of the common type."""
    tables = []
    for part in map(deserialized, packed):
        for position, field in enumerate(part.schema):
            if field.name in kinds:
                kind = pa.list_(TYPES[kinds[field.name].base][0])
                part = part.set_column(
                    position, field.name, part[field.name].cast(kind, safe=False)
                )
        tables.append(part)
    return pa.concat_tables(tables, promote_options="default").combine_chunks()
