"""Files of tf.Examples by Arrow batches."""

import pyarrow as pa
import pytest

from tfrec_meta.pipeline.example_files import record_batches, write_examples


def test_reads_the_rows_that_were_written(tmp_path):
    columns = {
        "user_id": pa.array([[b"u1"], [b"u2"], None], pa.list_(pa.binary())),
        "age": pa.array([[31], None, [40, 41]], pa.list_(pa.int64())),
    }
    write_examples([columns, columns], tmp_path / "data.gz")
    batches = list(record_batches([str(tmp_path / "data.gz")], rows=4))
    assert [batch.num_rows for batch in batches] == [4, 2]
    rows = [row for batch in batches for row in batch.to_pylist()]
    assert [row["user_id"] for row in rows[:3]] == [[b"u1"], [b"u2"], None]
    assert [row["age"] for row in rows[:3]] == [[31], None, [40, 41]]
    assert rows[3:] == rows[:3]
    assert [path.name for path in tmp_path.iterdir()] == ["data.gz"]


def test_leaves_no_file_if_the_batches_fail(tmp_path):
    def failing():
        yield {"user_id": pa.array([[b"u1"]], pa.list_(pa.binary()))}
        raise ArithmeticError

    with pytest.raises(ArithmeticError):
        write_examples(failing(), tmp_path / "data.gz")
    assert list(tmp_path.iterdir()) == []
