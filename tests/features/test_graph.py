"""One FeatureSpec, two roads: what it encodes in memory, the graph encodes alike."""

import hypothesis.strategies as st
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis.extra.numpy import arrays

from tfrec_meta.data import Interactions
from tfrec_meta.features import Category, FeatureSpec, Number, Text, Vector
from tfrec_meta.features import columns as in_memory
from tfrec_meta.features.graph import GraphEncoder, latest_known, raw_default, raw_dtype, raw_width

WILD = [
    "电影",
    "🎬👩‍👩‍👧",
    " blanks ",
    "\ttab",
    "ΟΔΥΣΣΕΥΣ",
    "İstanbul",
    "nul\x00inside",
    "\ufeffmark",
    "line\u2028separator",
    "quote\"'\\",
    "long " * 2_000,
    "0",
    "-1",
    "e\u0301",
    "é",
]
N = len(WILD)
IDS = pc.utf8_trim_whitespace(pa.array(WILD)).to_pylist()  # as tables of events have them
HISTORY = 4

ITEMS = pa.table(
    {
        "item_id": IDS,
        "title": [f"{token} Title {token}" for token in WILD],
        "genres": [[token, "Drama"] for token in WILD],
        "price": pa.array([*range(N - 1), None], pa.float64()),
        "image": [[float(i), -0.5] for i in range(N)],
    }
)
USERS = pa.table({"user_id": IDS, "age": [float(i) for i in range(N)], "city": WILD})
DATA = Interactions.from_arrays(IDS, IDS, further={"device": WILD[::-1]}, users=USERS, items=ITEMS)
SPEC = FeatureSpec(
    user=(Number("age"), Category("city")),
    item=(Text("title", 5), Category("genres", 3), Number("price"), Vector("image", 2)),
    context=(Category("device"), Text("search", 4)),
    history_length=HISTORY,
)


@pytest.fixture(scope="module")
def spec():
    events = DATA.events.append_column("search", pa.array([f"find {token}" for token in WILD]))
    data = Interactions(events, USERS, ITEMS, "wild")
    return SPEC.fit(data)


@pytest.fixture(scope="module")
def encoder(spec, tmp_path_factory):
    return GraphEncoder(spec, tmp_path_factory.mktemp("vocabularies"))


@pytest.fixture(scope="module")
def graph(encoder):
    return {
        "query": tf.function(encoder.encode_query, reduce_retracing=True),
        "item": tf.function(encoder.encode_item, reduce_retracing=True),
    }


def assert_equal(one, other):
    assert set(one) == set(other)
    for name, value in one.items():
        got = other[name].numpy()
        assert got.dtype == value.dtype, name
        np.testing.assert_array_equal(got, value, err_msg=name)


tokens = st.one_of(
    st.sampled_from([*WILD, *IDS, "", "unknown"]),
    st.text(st.characters(exclude_categories=["Cs"]), max_size=8),
)
# TensorFlow rounds numbers below the smallest normal one to 0, so none is generated.
numbers = st.floats(width=32, allow_subnormal=False) | st.sampled_from([0.0, 3e38, -3e38])


@st.composite
def queries(draw):
    n, width = draw(st.integers(0, 4)), draw(st.integers(0, 7))
    return {
        "user_id": draw(arrays(object, n, elements=tokens)),
        "history": draw(arrays(object, (n, width), elements=tokens)),
        "age": draw(arrays(np.float32, n, elements=numbers)),
        "city": draw(arrays(object, n, elements=tokens)),
        "device": draw(arrays(object, n, elements=tokens)),
        "search": draw(arrays(object, n, elements=tokens)),
    }


@settings(max_examples=40, deadline=None)
@given(raw=queries())
def test_queries_have_the_same_encoding_in_memory_and_in_the_graph(spec, graph, raw):
    features = {f.name: raw[f.name] for f in spec.query}
    encoded = spec.encode_queries(raw["user_id"], raw["history"], features)
    given = {
        name: tf.constant(value, tf.float32 if name == "age" else tf.string)
        for name, value in raw.items()
    }
    assert_equal(encoded, graph["query"](given))


@st.composite
def item_columns(draw):
    n = draw(st.integers(1, 4))
    return {
        "title": draw(arrays(object, n, elements=tokens)),
        "genres": draw(arrays(object, (n, 3), elements=tokens)),
        "price": draw(arrays(np.float32, n, elements=numbers)),
        "image": draw(arrays(np.float32, (n, 2), elements=numbers)),
    }


@settings(max_examples=25, deadline=None)
@given(raw=item_columns())
def test_items_have_the_same_encoding_in_memory_and_in_the_graph(spec, graph, raw):
    encoded = {f.name: spec.encode_feature(f, raw[f.name], "item") for f in spec.item}
    ids = np.array(["é"] * len(raw["title"]), object)
    given = {name: tf.constant(value, raw_dtype_of(spec, name)) for name, value in raw.items()}
    result = graph["item"]({"item_id": tf.constant(ids, tf.string), **given})
    assert_equal({"item_id": spec.items.encode(ids), **encoded}, result)


def raw_dtype_of(spec, name):
    return raw_dtype(next(feature for feature in spec.item if feature.name == name))


def test_the_catalogue_has_the_same_encoding_from_its_table(spec, graph):
    encoded = spec.encode_items(ITEMS)
    given = {
        "item_id": tf.constant(IDS),
        "title": tf.constant(ITEMS["title"].to_pylist()),
        "genres": tf.constant([[*genres, ""] for genres in ITEMS["genres"].to_pylist()]),
        "price": tf.constant([*range(N - 1), float("nan")], tf.float32),
        "image": tf.constant(ITEMS["image"].to_pylist()),
    }
    result = graph["item"](given)
    rows = result["item_id"].numpy()
    assert sorted(rows) == list(range(1, N + 1))
    assert_equal({name: value[rows] for name, value in encoded.items()} | {"item_id": rows}, result)


def test_every_wild_token_finds_its_row_and_comes_back(spec, encoder):
    rows = encoder.item_rows(tf.constant(IDS))
    assert rows.numpy().tolist() == spec.items.encode(IDS).tolist()
    assert 0 not in rows.numpy()
    assert [token.decode() for token in encoder.item_tokens(rows).numpy()] == IDS
    assert encoder.item_tokens(tf.constant([0, N + 1])).numpy().tolist() == [b"", b""]


def test_bytes_that_are_not_text_are_unknown_and_raise_no_error(graph):
    wrong = b"\xff\xfe\xed\xa0\x80"
    raw = {name: tf.constant([wrong, "é".encode()]) for name in ("user_id", "city", "device")}
    raw["search"] = tf.constant([wrong + b" find", b"find"])
    raw["history"] = tf.constant([[wrong, "é".encode()], ["é".encode(), b""]])
    raw["age"] = tf.constant([1.0, 1.0])
    encoded = {name: value.numpy() for name, value in graph["query"](raw).items()}
    for name in ("user_id", "city", "device"):
        assert encoded[name].ravel()[0] == 0
        assert encoded[name].ravel()[1] > 0
    assert encoded["history"][0].tolist() == encoded["history"][1].tolist()
    assert encoded["search"][0].tolist() == encoded["search"][1].tolist()


def test_defaults_are_one_row_with_an_empty_encoding(spec, graph):
    raw = {feature.name: raw_default(feature) for feature in spec.query}
    raw |= {"user_id": tf.constant([""]), "history": tf.constant([[""]])}
    for name, value in graph["query"](raw).items():
        assert not value.numpy().any(), name
    raw = {feature.name: raw_default(feature) for feature in spec.item}
    for name, value in graph["item"]({"item_id": tf.constant([""]), **raw}).items():
        assert not value.numpy().any(), name


@pytest.mark.parametrize(
    ("feature", "dtype", "shape"),
    [
        (Number("x"), tf.float32, [1]),
        (Vector("x", 3), tf.float32, [1, 3]),
        (Category("x"), tf.string, [1]),
        (Category("x", width=2), tf.string, [1, 2]),
        (Text("x", width=9), tf.string, [1]),
    ],
)
def test_a_request_carries_a_feature_in_its_raw_form(feature, dtype, shape):
    default = raw_default(feature)
    assert raw_dtype(feature) == default.dtype == dtype
    assert default.shape.as_list() == shape
    assert raw_width(feature) == (shape[1] if len(shape) > 1 else None)


def test_an_empty_vocabulary_knows_nothing(tmp_path):
    items = pa.table({"item_id": ["a"], "kind": pa.array([None], pa.string())})
    data = Interactions.from_arrays(["u"], ["a"], items=items)
    encoder = GraphEncoder(FeatureSpec(item=(Category("kind"),)).fit(data), tmp_path)
    encoded = encoder.encode_item({"item_id": tf.constant(["a"]), "kind": tf.constant(["x"])})
    assert encoded["kind"].numpy().tolist() == [[0]]
    assert encoder.feature_rows(Category("kind"), tf.constant([["x", ""]])).numpy().tolist() == [
        [0, 0]
    ]


def test_a_name_on_both_sides_uses_the_vocabulary_of_its_side(tmp_path):
    country = Category("country")
    data = Interactions.from_arrays(
        ["u"],
        ["a"],
        users=pa.table({"user_id": ["u"], "country": ["fr"]}),
        items=pa.table({"item_id": ["a"], "country": ["kr"]}),
    )
    encoder = GraphEncoder(FeatureSpec(user=(country,), item=(country,)).fit(data), tmp_path)
    item = encoder.encode_item(
        {"item_id": tf.constant(["a", "a"]), "country": tf.constant(["kr", "fr"])}
    )
    assert item["country"].numpy().tolist() == [[1], [0]]
    assert encoder.feature_rows(country, tf.constant(["kr", "fr"])).numpy().tolist() == [1, 0]


@settings(max_examples=30, deadline=None)
@given(
    rows=st.tuples(st.integers(0, 4), st.integers(0, 6)).flatmap(
        lambda shape: arrays(np.int32, shape, elements=st.integers(0, 3))
    ),
    length=st.sampled_from([1, 3, 8]),
)
def test_latest_known_is_the_same_in_memory_and_in_the_graph(rows, length):
    expected = in_memory.latest_known(rows, length)
    np.testing.assert_array_equal(latest_known(tf.constant(rows), length).numpy(), expected)
