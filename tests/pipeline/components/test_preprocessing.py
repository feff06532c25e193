"""Transform encodes the same tensors as the FeatureSpec in memory."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
import tensorflow as tf
import tensorflow_transform as tft
from tfx.types import Channel, artifact_utils, standard_artifacts

from tests.pipeline import conftest
from tfrec_meta.data import Interactions, histories, split_by_time
from tfrec_meta.features import Calendar, Category, FeatureSpec, HashedText, Number, Text, Vector
from tfrec_meta.features.columns import tokens
from tfrec_meta.features.example_columns import strings
from tfrec_meta.features.transform import spec_of
from tfrec_meta.pipeline.components.preprocessing import Transform
from tfrec_meta.pipeline.config import SplitConfig

WILD = ["电影", "🎬👩‍👩‍👧", " blanks ", "ΟΔΥΣΣΕΥΣ", "İstanbul", "quote\"'\\", "0", "é", "e\u0301"]
ODD = [*WILD, "", None, "line\nbreak", "carriage\rreturn", "long " * 500]
LISTED = [token for token in ODD if token is not None]  # a tf.Example has no null in lists
NUMBERS = [1.5, -2.0, None, float("nan"), float("inf"), 1e300, 3e38, 0.0, 17.0, 18.25]
TIMES = [1_709_251_199, -3_600, None, 0, 951_782_400, 4_102_444_800]
LENGTH = 12
SPLIT = SplitConfig(history_length=LENGTH, partitions=2)
SPEC = FeatureSpec(
    user=(
        Number("age"),
        Category("city", min_count=2),
        Category("languages", 2),
        Calendar("joined", ("weekday", "day")),
    ),
    item=(
        Text("title", 5, 30),
        Category("genres", 3),
        Number("price"),
        Vector("image", 2),
        Category("year"),
        Category("grade"),
        Calendar("released"),
        Category("nothing"),
        HashedText("plot", 3, ngrams=(2, 3), characters=9, buckets=90),
    ),
    context=(
        Number("position"),
        Calendar("asked"),
        Category("device"),
        Text("search", 4),
        HashedText("comment", 2, bigrams=True, ngrams=(3,), characters=9, buckets=90),
    ),
    history_length=8,
)


def some(rng, values, size):
    return [values[i] for i in rng.integers(0, len(values), size)]


def wild_tables(users=40, items=60, rows=1_000, seed=0):
    """1,000 events; a tenth of users and items is in no table, and items appear over time."""
    rng = np.random.default_rng(seed)
    user_ids = [f"{WILD[i % len(WILD)]}{i}" for i in range(users)]
    item_ids = [f"{WILD[i % len(WILD)]} {i}" for i in range(items)]
    time = np.sort(rng.integers(0, 700, rows))  # with ties
    newest = 5 + time * (items - 5) // 700  # items appear one by one
    events = pa.table(
        {
            "user_id": some(rng, user_ids, rows),
            "item_id": [item_ids[rng.integers(0, new)] for new in newest],
            "time": time,
            "value": rng.integers(1, 6, rows).astype(np.float32),
            "position": pa.array(rng.permutation(rows)),
            "asked": pa.array(some(rng, TIMES, rows), pa.int64()),
            "device": pa.array(some(rng, ODD, rows), pa.string()),
            "search": pa.array(some(rng, ODD, rows), pa.string()),
            "comment": pa.array([f"{ODD[i % len(ODD)]} {i}" for i in range(rows)]),
        }
    )
    known = user_ids[: users * 9 // 10]
    users_table = pa.table(
        {
            "user_id": [*known, "never seen"],
            "age": pa.array(some(rng, NUMBERS, len(known) + 1), pa.float64()),
            "joined": pa.array(some(rng, TIMES, len(known) + 1), pa.timestamp("s")),
            "city": pa.array(some(rng, ODD, len(known) + 1), pa.string()),
            "languages": pa.array(
                [some(rng, LISTED, i % 4) if i % 5 else None for i in range(len(known) + 1)],
                pa.list_(pa.string()),
            ),
        }
    )
    known = item_ids[: items * 9 // 10]
    n = len(known) + 1
    items_table = pa.table(
        {
            "item_id": [*known, "untouched"],
            "title": pa.array(
                [
                    f"{a} Title, {b}!"
                    for a, b in zip(some(rng, ODD, n), some(rng, ODD, n), strict=True)
                ]
            ),
            "genres": pa.array([some(rng, LISTED, i % 5) for i in range(n)], pa.list_(pa.string())),
            "price": pa.array(some(rng, NUMBERS, n), pa.float64()),
            "image": pa.array(
                [None if i % 7 == 0 else [i * 1e5, -0.5] for i in range(n)], pa.list_(pa.float32())
            ),
            "year": pa.array([None if i % 6 == 0 else 1990 + i % 9 for i in range(n)], pa.int64()),
            "grade": pa.array([None if i % 6 == 0 else i % 9 for i in range(n)], pa.float64()),
            "released": pa.array(some(rng, TIMES, n), pa.timestamp("s")).cast(
                pa.date32(), safe=False
            ),
            "nothing": pa.array([""] * n),
            "plot": pa.array([ODD[i % len(ODD)] for i in range(n)], pa.string()),
        }
    )
    return {"interactions": events, "users": users_table, "items": items_table}


def run(tables, folder, **arguments):
    examples = {}
    for name, table in tables.items():
        (folder / name).mkdir()
        examples[name] = conftest.write_examples(table, folder / name)
    made = conftest.run_histories(examples, folder, SPLIT)
    outputs = conftest.run_transform(
        made, folder, features=SPEC.declaration(), history_length=8, **arguments
    )
    return made, outputs


def in_memory(tables):
    """The same rows, in the order of Histories: by user, time and row."""
    events = tables["interactions"]
    users, times = events["user_id"].to_numpy(), events["time"].to_numpy()
    events = events.take(np.lexsort((times, users)))
    further = {name: events[name] for name in ("position", "asked", "device", "search", "comment")}
    return Interactions.from_arrays(
        *(events[name] for name in ("user_id", "item_id", "time", "value")),
        further=further,
        users=tables["users"],
        items=tables["items"],
    )


@pytest.fixture(scope="module")
def wild(tmp_path_factory):
    """The tables, the results in memory, and those of the pipeline."""
    tables = wild_tables()
    split = split_by_time(in_memory(tables), SPLIT.train, SPLIT.validation)
    spec = SPEC.fit(split.train)
    made, outputs = run(tables, tmp_path_factory.mktemp("wild"), materialize=True)
    return tables, split, spec, made, outputs


def read_back(outputs, split):
    """Returns the transformed rows of a split, one array per tensor."""
    graph = tft.TFTransformOutput(outputs["transform_graph"].uri)
    folder = Path(artifact_utils.get_split_uri([outputs["transformed_examples"]], split))
    records = tf.data.TFRecordDataset(sorted(map(str, folder.glob("*"))), "GZIP")
    batch = next(iter(records.batch(10_000)))
    parsed = tf.io.parse_example(batch, graph.transformed_feature_spec())
    return {name: values.numpy() for name, values in parsed.items()}


def assert_same(encoded, found, sort_by):
    order, other = (
        np.argsort(part[sort_by].reshape(len(part[sort_by]), -1)[:, 0]) for part in (encoded, found)
    )
    for name, values in encoded.items():
        assert values.dtype == (np.float32 if found[name].dtype == np.float32 else np.int32), name
        got = found[name][other].reshape(values.shape)
        if values.dtype == np.float32:
            np.testing.assert_allclose(got, values[order], rtol=1e-6, err_msg=name)
        else:
            np.testing.assert_array_equal(got, values[order], err_msg=name)


@pytest.mark.pipeline
def test_fits_the_same_spec_as_in_memory(wild):
    _, _, spec, _, outputs = wild
    found = spec_of(outputs["transform_graph"].uri)
    assert found == spec  # vocabularies and, to the last digit, statistics
    assert len(found.vocabularies["item.nothing"]) == 1
    assert len(found.items) < 61  # some items come only after train


@pytest.mark.pipeline
@pytest.mark.parametrize("split", ["train", "validation", "test"])
def test_encodes_events_as_in_memory(wild, split):
    _, parts, spec, _, outputs = wild
    data, rows = parts.data, getattr(parts, f"{split}_index")
    window = histories(data).window(rows, LENGTH)
    ids = np.append(data.events["item_id"].to_numpy(zero_copy_only=False), "")
    events = data.events.take(pa.array(rows))
    users = data.users
    users = users.take(pc.index_in(events["user_id"], value_set=users["user_id"]))
    raw = {f.name: users[f.name] for f in spec.user}
    raw |= {f.name: events[f.name] for f in spec.context}
    encoded = spec.encode_queries(events["user_id"].to_pylist(), ids[window], raw)
    encoded["item_id"] = spec.items.encode(events["item_id"])
    encoded["value"] = events["value"].to_numpy()
    found = read_back(outputs, split)
    assert {name for name in found if "/" not in name} == set(encoded)
    assert_same(encoded, found, "position")
    if split == "test":
        assert (encoded["item_id"] == 0).any()
        assert (spec.items.encode(ids[window[window >= 0]]) == 0).any()
    for name in set(found) - set(encoded):
        assert not found[name].any(), f"{name} is of no event"


@pytest.mark.pipeline
@pytest.mark.parametrize("split, side", [("users", "user"), ("items", "item")])
def test_encodes_tables_as_in_memory(wild, split, side):
    _, parts, spec, _, outputs = wild
    table, key = getattr(parts.data, split), f"{side}_id"
    where = "query" if side == "user" else "item"
    encoded = {
        f"{side}/{f.name}": spec.encode_feature(f, table[f.name], where)
        for f in getattr(spec, side)
    }
    encoded[f"{side}/{key}"] = spec.vocabularies[key].encode(table[key])
    found = read_back(outputs, split)
    assert_same(encoded, found, f"{side}/{key}")
    for name in set(found) - set(encoded):
        assert not found[name].any(), f"{name} is of no {side}"


@pytest.mark.pipeline
def test_a_later_span_keeps_rows_and_scales_and_appends_new_tokens(wild, tmp_path):
    _, _, spec, _, outputs = wild
    # Other frequencies, and more users and items, frequent ones at the end of the list.
    later = wild_tables(users=50, items=75, seed=1)
    ids = pa.array(later["interactions"]["item_id"].to_pylist()[::-1])
    later["interactions"] = later["interactions"].set_column(1, "item_id", ids)
    _, made = run(later, tmp_path, earlier=outputs["transform_graph"])
    grown = spec_of(made["transform_graph"].uri)
    split = split_by_time(in_memory(later), SPLIT.train, SPLIT.validation)
    assert grown == spec.fit(split.train)
    assert grown.statistics == spec.statistics
    for key, vocabulary in spec.vocabularies.items():
        old = vocabulary.tokens
        assert grown.vocabularies[key].tokens[: len(old)].equals(old), key
    assert len(grown.users) > len(spec.users)
    assert len(grown.items) > len(spec.items)
    assert SPEC.fit(split.train).items != grown.items


@pytest.mark.pipeline
def test_infers_features_from_the_catalogue_without_a_declaration(
    toy_tables, toy_histories, toy_transform
):
    seen = pq.read_table(Path(toy_histories["seen"].uri) / "events.parquet")
    data = Interactions(seen, toy_tables.users, toy_tables.items)
    spec = spec_of(toy_transform.uri)
    expected = FeatureSpec.infer(data, conftest.HISTORY_LENGTH)
    assert {f.name: f for f in spec.query + spec.item} == {
        f.name: f for f in expected.query + expected.item
    }
    assert spec.history_length == conftest.HISTORY_LENGTH


@pytest.mark.parametrize(
    "features, message",
    [
        ({"user": (Number("height"),)}, "The users have no column `height`"),
        ({"user": (Number("gender"),)}, "`gender` holds text; declare a Category"),
    ],
    ids=["no column", "text"],
)
def test_refuses_a_feature_without_suitable_data(toy_histories, tmp_path, features, message):
    with pytest.raises(ValueError, match=message):
        conftest.run_transform(
            toy_histories, tmp_path, features=FeatureSpec(**features).declaration()
        )


@pytest.mark.parametrize("number", [9.5, float("inf"), 2.0**24 + 2])
def test_a_category_of_fractions_is_refused_as_in_memory(number):
    with pytest.raises(tf.errors.InvalidArgumentError, match="`price` holds numbers that are not"):
        strings(tf.sparse.from_dense([[number]]), "price")
    with pytest.raises(ValueError, match="`price` holds numbers that are not whole"):
        tokens(pa.array([9.0, number]), "price")


def test_whole_numbers_of_a_category_have_no_decimal_point_as_in_memory():
    found = strings(tf.sparse.from_dense([[9.0, -3.0, 2.0**24]]), "price").values
    assert found.numpy().tolist() == [b"9", b"-3", b"16777216"]
    kinds = (pa.float64(), pa.float32(), pa.int64())
    for kind in kinds:
        column = pa.array([9, -3, 2**24, None], pa.int64()).cast(kind)
        assert tokens(column, "price").to_pylist() == ["9", "-3", "16777216", ""]


def test_refuses_a_graph_without_a_spec(tmp_path):
    with pytest.raises(ValueError, match="holds no FeatureSpec; run Transform again"):
        spec_of(tmp_path)


def test_outputs_examples_only_if_materialized():
    examples = Channel(type=standard_artifacts.Examples)
    schema = Channel(type=standard_artifacts.Schema)
    plain = Transform(examples, schema)
    assert set(plain.outputs) == {"transform_graph"}
    assert set(Transform(examples, schema, materialize=True).outputs) == {
        "transform_graph",
        "transformed_examples",
    }
