"""The rows of Histories as `Interactions`."""

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import tensorflow as tf

from tfrec_meta.pipeline import events


def feature(values):
    if isinstance(values[0], str):
        encoded = [value.encode() for value in values]
        return tf.train.Feature(bytes_list=tf.train.BytesList(value=encoded))
    if isinstance(values[0], int):
        return tf.train.Feature(int64_list=tf.train.Int64List(value=values))
    return tf.train.Feature(float_list=tf.train.FloatList(value=values))


def write(path, rows, compression="GZIP"):
    path.parent.mkdir(parents=True, exist_ok=True)
    with tf.io.TFRecordWriter(str(path), compression) as writer:
        for row in rows:
            features = {name: feature(values) for name, values in row.items()}
            example = tf.train.Example(features=tf.train.Features(feature=features))
            writer.write(example.SerializeToString())


ROWS = [
    {
        "user_id": ["u1"],
        "item_id": ["i1"],
        "time": [10],
        "value": [2.5],
        "history": ["i0", "i9"],
        "device": ["tv"],
        "tags": ["x"],
        "age": [31],
    },
    {"user_id": ["u2"], "item_id": ["i2"], "time": [20], "value": [1.0], "tags": ["y", "z"]},
    {"user_id": ["ü3"], "item_id": ["i1"], "value": [1.0], "device": ["web"]},
]


@pytest.fixture
def examples(tmp_path):
    write(tmp_path / "Split-train" / "data_tfrecord-00000-of-00002.gz", ROWS[:2])
    write(tmp_path / "Split-train" / "data_tfrecord-00001-of-00002.gz", ROWS[2:])
    (tmp_path / "Split-train" / ".data_tfrecord-00001.77").write_bytes(b"half a shard")
    (tmp_path / "Split-validation").mkdir()
    return tmp_path


def test_reads_typed_columns_without_histories(examples):
    table = events.read_split(examples, "train")
    assert table.to_pydict() == {
        "user_id": ["u1", "u2", "ü3"],
        "item_id": ["i1", "i2", "i1"],
        "time": [10, 20, None],
        "value": [2.5, 1.0, 1.0],
        "age": [31, None, None],
        "device": ["tv", None, "web"],
        "tags": [["x"], ["y", "z"], None],
    }
    assert table.schema.field("time").type == pa.int64()
    assert table.schema.field("value").type == pa.float32()


def test_reads_uncompressed_files(tmp_path):
    write(tmp_path / "rows", ROWS[:1], compression="")
    assert events.read_files([str(tmp_path / "rows")])["user_id"].to_pylist() == ["u1"]


def test_a_split_without_files_is_empty(examples):
    table = events.read_split(examples, "validation")
    assert table.num_rows == 0
    assert len(events.interactions(table, examples)) == 0


def test_refuses_an_unknown_split(examples):
    with pytest.raises(FileNotFoundError, match="no split 'test'; use one of train, validation"):
        events.read_split(examples, "test")


def test_interactions_have_the_catalogue_and_no_user_columns(examples, tmp_path):
    folder = tmp_path / "catalogue"
    folder.mkdir()
    pq.write_table(pa.table({"user_id": ["u1"], "age": [31]}), folder / "users.parquet")
    data = events.interactions(events.read_split(examples, "train"), folder)
    assert data.events.column_names == ["user_id", "item_id", "time", "value", "device", "tags"]
    assert data.users["age"].to_pylist() == [31]
    assert data.items is None


def test_reads_the_output_of_histories(toy_histories, toy_tables):
    made = {
        split: events.interactions(
            events.read_split(toy_histories["examples"].uri, split),
            toy_histories["catalogue"].uri,
        )
        for split in ("train", "validation", "test")
    }
    columns = ["user_id", "item_id", "time", "value", "device"]
    found = pa.concat_tables([data.events.select(columns) for data in made.values()])
    order = [(name, "ascending") for name in columns]
    assert found.sort_by(order).equals(
        toy_tables.interactions.select(columns).sort_by(order).cast(found.schema)
    )
    assert set(made["train"].users.column_names) == {"user_id", "age", "gender"}
    assert len(made["train"].items) == len(toy_tables.items)
    seen = pq.read_table(f"{toy_histories['seen'].uri}/events.parquet")
    again = events.interactions(seen, toy_histories["catalogue"].uri)
    assert len(again) == len(made["train"]) + len(made["validation"])
