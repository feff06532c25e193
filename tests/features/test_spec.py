"""FeatureSpec in memory: what it infers, learns, encodes and refuses; values worked by hand."""

import dataclasses
import json

import numpy as np
import pyarrow as pa
import pytest

from tfrec_meta.data import Interactions
from tfrec_meta.features import Category, FeatureSpec, Number, Text, Vector, Vocabulary
from tfrec_meta.features.columns import latest_known

USERS = pa.table(
    {
        "user_id": ["u", "v", "w", "x"],
        "age": [20, 40, None, 30],
        "gender": ["F", "M", "F", "M"],
        "zip_code": ["10115", "94110", "02139", "60601"],
    }
)
ITEMS = pa.table(
    {
        "item_id": ["a", "b", "c", "d"],
        "title": ["Toy Story (1995)", "Heat at Night", None, "Toy Soldiers"],
        "year": [1995, 1995, 1997, 1999],
        "genres": [["Drama", "Comedy"], ["Drama"], None, ["Drama", "Comedy", "War"]],
        "image": [[1.0, 2.0], [0.5, 0.5], None, [float("nan"), float("inf")]],
        "3d": ["x"] * 4,
        "filter_kind": ["x"] * 4,
        "größe": [1.0] * 4,
        "history": ["x"] * 4,
    }
)
DATA = Interactions.from_arrays(
    ["v", "v", "u"],
    ["b", "a", "b"],
    time=[1, 2, 3],
    further={"device": ["phone", "web", "phone"]},
    users=USERS,
    items=ITEMS,
)
DECLARED = FeatureSpec(
    user=(Number("age"), Category("gender")),
    item=(Text("title", width=3), Category("genres", width=2), Vector("image", 2)),
    context=(Category("device"),),
    history_length=3,
)
SPEC = DECLARED.fit(DATA)


# Declaring.


def test_infer_takes_what_looks_useful_and_leaves_what_does_not():
    spec = FeatureSpec.infer(DATA, history_length=7)
    assert spec.user == (Number("age"), Category("gender"))
    assert spec.item == (
        Text("title"),
        Number("year"),
        Category("genres", width=3),
        Vector("image", 2),
    )
    assert spec.context == ()
    assert spec.history_length == 7
    assert not spec.is_fitted


@pytest.mark.parametrize(
    ("column", "feature"),
    [
        (pa.array([[1.0, 2.0], [3.0, 4.0]]), Vector("c", 2)),
        (pa.array([[1.0, 2.0], [3.0, 4.0]], pa.list_(pa.float32(), 2)), Vector("c", 2)),
        (pa.array([[1.0], [3.0, 4.0]]), None),
        (pa.array([["x", "y"], ["x", "y"]], pa.list_(pa.string(), 2)), Category("c", 2)),
        (pa.array([["x"], []], pa.large_list(pa.large_string())), Category("c", 1)),
        (pa.array([True, False]), Category("c")),
        (pa.array(["x", "x"]).dictionary_encode(), Category("c")),
        (pa.array([0, 1], pa.timestamp("s")), None),
        (pa.array([None, None], pa.null()), None),
    ],
)
def test_infer_goes_by_the_type_of_a_column(column, feature):
    items = pa.table({"item_id": ["a", "b"], "c": column})
    spec = FeatureSpec.infer(Interactions.from_arrays(["u"], ["a"], items=items))
    assert spec.item == (() if feature is None else (feature,))
    spec.fit(Interactions.from_arrays(["u"], ["a"], items=items)).encode_items(items)


def test_infer_without_tables_declares_nothing():
    spec = FeatureSpec.infer(Interactions.from_arrays(["u"], ["a"]))
    assert spec.user == spec.item == ()


@pytest.mark.parametrize(
    "name",
    ["user_id", "item_id", "history", "exclude", "k", "diversity", "examples", "sample_weight"]
    + ["feedback", "filter_genres", "two words", "1st", "", "größe", "_hidden", "class"],
)
def test_refuses_names_that_cannot_be_served(name):
    with pytest.raises(ValueError, match=f"{name!r}.*Rename the column"):
        Number(name)


@pytest.mark.parametrize(
    "make",
    [
        lambda: Category("c", width=0),
        lambda: Category("c", min_count=0),
        lambda: Text("c", width=-1),
        lambda: Text("c", vocabulary_size=0),
        lambda: Vector("c", dim=0),
        lambda: FeatureSpec(history_length=0),
    ],
)
def test_refuses_sizes_below_one(make):
    with pytest.raises(ValueError, match=r"`\w+`=(0|-1); use 1 or more"):
        make()


def test_a_name_stands_once_on_each_side():
    with pytest.raises(ValueError, match=r"declared twice: \['age'\]"):
        FeatureSpec(user=(Number("age"),), context=(Category("age"),))
    with pytest.raises(ValueError, match=r"declared twice: \['age'\]"):
        FeatureSpec(item=(Number("age"), Number("age")))


def test_one_name_on_both_sides_has_a_vocabulary_on_each():
    data = Interactions.from_arrays(
        ["u"],
        ["a"],
        users=pa.table({"user_id": ["u"], "country": ["fr"]}),
        items=pa.table({"item_id": ["a"], "country": ["kr"]}),
    )
    country = Category("country")
    spec = FeatureSpec(user=(country,), item=(country,)).fit(data)
    assert spec.vocabularies["user.country"].tokens.to_pylist() == ["fr"]
    assert spec.encode_items(data.items)["country"].tolist() == [[0], [1]]
    assert spec.encode_users(data.users)["country"].tolist() == [[0], [1]]
    assert spec.key(country, "item") == "item.country"
    assert spec.key(country, "query") == "user.country"


def test_refuses_a_feature_of_another_spec():
    with pytest.raises(ValueError, match="`age` is not on the item side"):
        SPEC.key(Number("age"), "item")


# Fitting.


def test_fit_learns_vocabularies_and_statistics():
    tokens = {key: v.tokens.to_pylist() for key, v in SPEC.vocabularies.items()}
    assert tokens == {
        "user_id": ["v", "u", "w", "x"],  # users with events by count, then users of the table only
        "item_id": ["b", "a", "c", "d"],
        "user.gender": ["F", "M"],
        "item.title": ["toy", "1995", "at", "heat", "night", "soldiers", "story"],
        "item.genres": ["Drama", "Comedy"],  # "War" is beyond the width
        "context.device": ["phone", "web"],
    }
    assert SPEC.statistics == {"user.age": (30.0, pytest.approx(np.sqrt(200 / 3)))}
    assert SPEC.catalogue_size == 4
    assert not DECLARED.is_fitted


def test_a_later_fit_keeps_rows_and_statistics():
    later = Interactions.from_arrays(
        ["y", "y", "x"],
        ["e", "e", "d"],
        further={"device": ["tv", "tv", "web"]},
        users=pa.table({"user_id": ["y"], "age": [99], "gender": ["X"]}),
        items=pa.table(
            {"item_id": ["e"], "title": ["Toy Heat"], "genres": [["War"]], "image": [[9.0, 9.0]]}
        ),
    )
    grown = SPEC.fit(later)
    assert grown.statistics == SPEC.statistics
    for key, vocabulary in SPEC.vocabularies.items():
        old = vocabulary.tokens.to_pylist()
        assert grown.vocabularies[key].tokens.to_pylist()[: len(old)] == old
    assert grown.users.encode(["y"]).tolist() == [5]
    assert grown.items.encode(["e"]).tolist() == [5]
    assert grown.vocabularies["item.genres"].tokens.to_pylist() == ["Drama", "Comedy", "War"]
    assert grown.fit(later).vocabularies == grown.vocabularies


def test_text_vocabularies_stop_at_their_size_but_never_forget():
    items = pa.table({"item_id": ["a", "b"], "title": ["one two", "one three"]})
    data = Interactions.from_arrays(["u"], ["a"], items=items)
    spec = FeatureSpec(item=(Text("title", vocabulary_size=2),)).fit(data)
    assert spec.vocabularies["item.title"].tokens.to_pylist() == ["one", "three"]
    smaller = dataclasses.replace(spec, item=(Text("title", vocabulary_size=1),)).fit(data)
    assert smaller.vocabularies["item.title"] == spec.vocabularies["item.title"]


def test_rare_categories_stay_unknown():
    spec = FeatureSpec(item=(Category("genres", width=3, min_count=2),)).fit(DATA)
    assert spec.vocabularies["item.genres"].tokens.to_pylist() == ["Drama", "Comedy"]


def test_a_missing_column_is_named_with_what_there_is():
    with pytest.raises(ValueError, match=r"user table has no column `height`; it has \['user_id'"):
        FeatureSpec(user=(Number("height"),)).fit(DATA)
    bare = Interactions.from_arrays(["u"], ["a"])
    with pytest.raises(ValueError, match=r"item table has no column `year`; it has \[\]"):
        FeatureSpec(item=(Number("year"),)).fit(bare)
    with pytest.raises(ValueError, match="item table has no column `image`"):
        SPEC.encode_items(ITEMS.drop_columns(["image"]))
    with pytest.raises(ValueError, match="context table has no column `device`"):
        SPEC.encode_context(bare.events)


@pytest.mark.parametrize(
    "use",
    [
        lambda: DECLARED.users,
        lambda: DECLARED.catalogue_size,
        lambda: DECLARED.encode_queries(["u"]),
        lambda: DECLARED.encode_feature(Number("age"), [1.0], "query"),
        lambda: DECLARED.encode_feature(Category("gender"), ["F"], "query"),
    ],
)
def test_an_unfitted_spec_says_so(use):
    with pytest.raises(ValueError, match=r"call `spec.fit\(data\)` first"):
        use()


# Encoding.


def test_numbers_are_standardised_with_a_flag_for_presence():
    spec = dataclasses.replace(SPEC, statistics={"user.age": (30.0, 4.0)})
    for column in (
        [20, None, 30.0, float("nan"), float("inf"), -float("inf")],
        pa.array([20, None, 30.0, float("nan"), float("inf"), -float("inf")]),
        pa.chunked_array([[20, None, 30.0], [float("nan"), float("inf"), -float("inf")]]),
    ):
        encoded = spec.encode_feature(Number("age"), column, "query")
        assert encoded.dtype == np.float32
        assert encoded.tolist() == [[-2.5, 1], [0, 0], [0, 1], [0, 0], [0, 0], [0, 0]]


def test_wild_numbers_stay_within_ten_deviations():
    spec = dataclasses.replace(SPEC, statistics={"user.age": (30.0, 4.0)})
    encoded = spec.encode_feature(Number("age"), [3e38, -3e38, 1e300, 71.0], "query")
    assert encoded.tolist() == [[10, 1], [-10, 1], [0, 0], [10, 1]]  # 1e300 exceeds float32


@pytest.mark.parametrize(
    ("column", "statistics"),
    [
        ([0.1] * 7, (pytest.approx(0.1), 1.0)),  # rounding gives a deviation of 1.4e-17
        ([None, float("nan")], (0.0, 1.0)),
        ([1e300, 1.0, 3.0], (2.0, 1.0)),
        ([1e-44, 0.0], (pytest.approx(0.0), 1.0)),
        ([5], (5.0, 1.0)),
    ],
)
def test_statistics_of_odd_columns_stay_usable(column, statistics):
    users = pa.table(
        {"user_id": [str(i) for i in range(len(column))], "x": pa.array(column, pa.float64())}
    )
    data = Interactions.from_arrays(["0"], ["a"], users=users)
    spec = FeatureSpec(user=(Number("x"),)).fit(data)
    assert spec.statistics["user.x"] == statistics
    assert np.isfinite(spec.encode_users(users)["x"]).all()


def test_categories_are_cut_and_padded_to_their_width():
    genres = Category("genres", width=2)
    expected = [[1, 2], [0, 1], [0, 0], [0, 0]]
    columns = [["Drama", "Comedy", "War"], [None, "Drama"], [], None]
    forms = [
        pa.array(columns),
        pa.chunked_array([columns[:1], columns[1:]]),
        pa.array([["x"], *columns]).slice(1),
        pa.array(columns, pa.large_list(pa.string())),
        columns,
    ]
    for form in forms:
        assert SPEC.encode_feature(genres, form, "item").tolist() == expected
    matrix = np.array([["Drama", "Comedy"], ["", "Drama"]], object)
    assert SPEC.encode_feature(genres, matrix, "item").tolist() == [[1, 2], [0, 1]]
    assert SPEC.encode_feature(genres, [], "item").shape == (0, 2)


def test_a_plain_category_is_a_column_of_one():
    gender = Category("gender")
    for column in (["M", None, "?", "F"], pa.array(["M", None, "?", "F"]).dictionary_encode()):
        assert SPEC.encode_feature(gender, column, "query").tolist() == [[2], [0], [0], [1]]


def test_texts_become_rows_of_their_first_words():
    encoded = SPEC.encode_items(ITEMS)["title"]
    assert encoded.tolist() == [
        [0, 0, 0],
        [4, 3, 5],  # b: heat at night
        [1, 7, 2],  # a: toy story 1995
        [0, 0, 0],
        [1, 6, 0],
    ]


def test_vectors_are_taken_as_they_are_and_zero_where_there_is_none():
    encoded = SPEC.encode_items(ITEMS)["image"]
    assert encoded.dtype == np.float32
    assert encoded.tolist() == [[0, 0], [0.5, 0.5], [1, 2], [0, 0], [0, 0]]
    fixed = pa.array([[1.0, 2.0], None], pa.list_(pa.float32(), 2))
    assert SPEC.encode_feature(Vector("image", 2), fixed, "item").tolist() == [[1, 2], [0, 0]]


def test_refuses_vectors_of_another_length_even_if_the_sum_fits():
    with pytest.raises(ValueError, match="`image` has 3 numbers in row 1, but `dim`=2"):
        SPEC.encode_feature(Vector("image", 2), pa.array([[1.0, 2.0, 3.0], [1.0]]), "item")
    with pytest.raises(ValueError, match=r"`image` has shape \[1, 3\]; use \[n, 2\]"):
        SPEC.encode_feature(Vector("image", 2), [[1.0, 2.0, 3.0]], "item")


def test_items_that_the_table_lacks_have_empty_features():
    encoded = SPEC.encode_items(ITEMS.slice(1, 1))
    assert encoded["genres"].tolist() == [[0, 0], [1, 0], [0, 0], [0, 0], [0, 0]]
    assert not SPEC.encode_items(None)["image"].any()


def test_users_and_contexts_are_encoded_by_their_tables():
    users = SPEC.encode_users(USERS)
    assert users["gender"].tolist() == [[0], [2], [1], [1], [2]]
    assert users["age"][:, 1].tolist() == [0, 1, 1, 0, 1]
    assert SPEC.encode_context(DATA.events)["device"].tolist() == [[1], [2], [1]]


def test_queries_hold_known_rows_and_the_latest_known_history():
    history = [["a", "?", "b", "c", "d"], ["b", "", "", "", ""]]
    encoded = SPEC.encode_queries(["u", "stranger"], history, {"gender": ["M", None]})
    assert {name: value.dtype for name, value in encoded.items()} == {
        "user_id": np.int32,
        "history": np.int32,
        "age": np.float32,
        "gender": np.int32,
        "device": np.int32,
    }
    assert encoded["user_id"].tolist() == [2, 0]
    assert encoded["history"].tolist() == [[1, 3, 4], [1, 0, 0]]
    assert encoded["gender"].tolist() == [[2], [0]]
    assert encoded["age"].tolist() == [[0, 0], [0, 0]]
    assert encoded["device"].tolist() == [[0], [0]]


def test_queries_without_history_or_rows():
    assert SPEC.encode_queries(["u"])["history"].tolist() == [[0, 0, 0]]
    empty = SPEC.encode_queries([], [], {"gender": [], "age": []})
    assert {name: value.shape for name, value in empty.items()} == {
        "user_id": (0,),
        "history": (0, 3),
        "age": (0, 2),
        "gender": (0, 1),
        "device": (0, 1),
    }


@pytest.mark.parametrize(
    "history",
    [[["a"]], ["a", "b"], [["a"], ["a", "b"]], np.full((2, 1, 1), "a")],
    ids=["rows", "flat", "ragged", "3-D"],
)
def test_refuses_a_history_of_another_shape(history):
    with pytest.raises(ValueError, match=r"`history` must be \[n, h\] for the 2 users"):
        SPEC.encode_queries(["u", "v"], history)


def test_query_features_are_checked():
    with pytest.raises(ValueError, match=r"\['height'\] are not part of the spec; it has \['age'"):
        SPEC.encode_queries(["u"], features={"height": [1.0]})
    with pytest.raises(ValueError, match="`age` has 1 rows for 2 users"):
        SPEC.encode_queries(["u", "v"], features={"age": [1.0]})


@pytest.mark.parametrize(
    ("rows", "length", "expected"),
    [
        ([[1, 2, 3]], 2, [[2, 3]]),
        ([[1, 2, 3]], 4, [[1, 2, 3, 0]]),
        ([[0, 5, 0, 6, 0]], 3, [[5, 6, 0]]),
        ([[0, 5, 0, 6, 7]], 2, [[6, 7]]),
        ([[0, 0]], 2, [[0, 0]]),
        ([[4, 4, 0], [0, 0, 9]], 1, [[4], [9]]),
        ([[], []], 2, [[0, 0], [0, 0]]),
    ],
)
def test_latest_known_matches_values_worked_by_hand(rows, length, expected):
    assert latest_known(np.array(rows, np.int32), length).tolist() == expected


# Saving.


def test_save_and_load_give_the_same_spec(tmp_path):
    SPEC.save(tmp_path / "new" / "spec")
    loaded = FeatureSpec.load(tmp_path / "new" / "spec")
    assert loaded == SPEC
    assert (
        loaded.encode_items(ITEMS)["title"].tolist() == SPEC.encode_items(ITEMS)["title"].tolist()
    )
    assert json.loads((tmp_path / "new" / "spec" / "spec.json").read_text())["format"] == 1


def test_an_unfitted_spec_survives_saving_too(tmp_path):
    DECLARED.save(tmp_path / "spec")
    assert FeatureSpec.load(tmp_path / "spec") == DECLARED


def test_refuses_to_save_over_a_spec(tmp_path):
    SPEC.save(tmp_path / "spec")
    with pytest.raises(FileExistsError):
        SPEC.save(tmp_path / "spec")


def test_refuses_another_format_and_names_the_way_out(tmp_path):
    SPEC.save(tmp_path / "spec")
    path = tmp_path / "spec" / "spec.json"
    path.write_text(path.read_text().replace('"format": 1', '"format": 99'))
    with pytest.raises(ValueError, match=r"format 99, but this version reads 1. Fit and save"):
        FeatureSpec.load(tmp_path / "spec")


def test_a_feature_kind_of_a_later_version_is_named(tmp_path):
    SPEC.save(tmp_path / "spec")
    path = tmp_path / "spec" / "spec.json"
    path.write_text(path.read_text().replace('"kind": "Vector"', '"kind": "Sound"'))
    with pytest.raises(ValueError, match="Unknown feature kind 'Sound'"):
        FeatureSpec.load(tmp_path / "spec")


def test_vocabulary_is_what_the_catalogue_is_read_from():
    assert isinstance(SPEC.items, Vocabulary)
    assert SPEC.items.decode(np.array([1, 4])).tolist() == ["b", "d"]


def test_a_vocabulary_outside_of_the_folder_is_never_read(tmp_path):
    FeatureSpec().fit(Interactions.from_arrays(["u"], ["i"])).save(tmp_path / "spec")
    (tmp_path / "secret.txt").write_text("secret\n")
    path = tmp_path / "spec" / "spec.json"
    record = json.loads(path.read_text())
    path.write_text(json.dumps({**record, "vocabularies": ["user_id", "item_id", "../secret"]}))
    with pytest.raises(ValueError, match="secret"):
        FeatureSpec.load(tmp_path / "spec")


def test_a_declaration_round_trips_through_json():
    spec = FeatureSpec(
        user=(Category("team", width=2),),
        item=(Text("title", width=3), Vector("picture", 4)),
        context=(Number("hour"),),
        history_length=7,
    )
    assert FeatureSpec.declared(json.loads(json.dumps(spec.declaration()))) == spec


def test_refuses_names_that_differ_only_by_case():
    with pytest.raises(ValueError, match="declared twice"):
        FeatureSpec(item=(Category("genre"), Category("Genre")))


def test_queries_are_compatible_if_users_items_and_query_features_are_equal():
    users = pa.table({"user_id": ["u"], "team": ["red"]})
    items = pa.table({"item_id": ["i"], "kind": ["war"]})
    data = Interactions.from_arrays(["u"], ["i"], users=users, items=items)
    spec = FeatureSpec(user=(Category("team"),)).fit(data)
    more = FeatureSpec(user=(Category("team"),), item=(Category("kind"),)).fit(data)
    assert more.takes_queries_of(spec)
    assert spec.takes_queries_of(more)
    assert not FeatureSpec().fit(data).takes_queries_of(spec)
    assert not FeatureSpec(user=spec.user, history_length=3).fit(data).takes_queries_of(spec)
    blue = pa.table({"user_id": ["u"], "team": ["blue"]})
    other = Interactions.from_arrays(["u"], ["i"], users=blue)
    assert not FeatureSpec(user=spec.user).fit(other).takes_queries_of(spec)
