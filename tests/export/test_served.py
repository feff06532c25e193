"""A served model answers over gRPC as the model in memory does."""

import grpc
import numpy as np
import pytest

import tfrec_meta as tm
from tfrec_meta.export import signatures as names
from tfrec_meta.serving import Catalogue, InvalidRequest
from tfrec_meta.serving.protocol.messages import example

EMBED_ITEMS_BY_ID_ONLY = ("ials",)  # of the families with embeddings
HISTORY, EXCLUDE, CANDIDATES, FILTERS = 6, 3, 5, 8  # as tests/export/conftest.py exports


def padded(rows, width):
    return np.array([list(row) + [""] * (width - len(row)) for row in rows], object)


def expected(model, user, history, k, exclude=(), hidden_items=(), features=None):
    """Ids and scores of the model in memory, ranked with NumPy."""
    query = model.spec.encode_queries([user], padded([history], len(history) or 1), features)
    scores = model.score(query)[0]
    hidden = {*history, *exclude, *hidden_items}
    items = model.spec.items.decode(np.arange(1, len(scores) + 1))
    order = [j for j in np.argsort(-scores, kind="stable") if items[j] not in hidden][:k]
    return [items[j] for j in order], scores[order]


def check(answer, ids, scores):
    assert [i.decode() for i in answer["item_id"][: len(ids)]] == list(ids)
    np.testing.assert_allclose(answer["score"][: len(ids)], scores, rtol=1e-4, atol=1e-5)


def row(answer, index):
    return {name: value[index] for name, value in answer.items()}


QUERIES = [
    ("u1", ["i1", "i2", "i3"]),
    ("u2", []),
    ("nobody", ["i4", "i5", "i6"]),
    ("nobody", []),
    ("", ["never seen"]),
]


@pytest.mark.parametrize(("user", "history"), QUERIES)
def test_recommend_equals_the_model_in_memory(served_of, model_of, any_family, user, history):
    served, model = served_of(any_family), model_of(any_family)
    answer = served.predict(names.RECOMMEND, user_id=[user], history=padded([history], HISTORY))
    assert answer["item_id"].shape == (1, 4)  # the `k` of the export
    check(row(answer, 0), *expected(model, user, history, 4))


def test_fills_in_the_defaults_of_optional_inputs(served, model):
    answer = served.predict(names.RECOMMEND, user_id=["u3"])
    check(row(answer, 0), *expected(model, "u3", [], 4))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("history", [[""] * HISTORY]),
        ("exclude", [[""] * EXCLUDE]),
        ("k", np.array([4], np.int32)),
        ("segment", [""]),
        ("age", np.array([np.nan], np.float32)),
        ("device", [""]),
        ("asked", np.array([-(2**63)])),
        ("asked", np.array([2**62])),  # no time of the years 1 to 9999
        ("filter_category", [[""] * FILTERS]),
    ],
)
def test_each_default_is_the_blank_value(served, name, value):
    left_out = served.predict(names.RECOMMEND, user_id=["u3"])
    given = served.predict(names.RECOMMEND, user_id=["u3"], **{name: value})
    np.testing.assert_array_equal(given["item_id"], left_out["item_id"])
    np.testing.assert_allclose(given["score"], left_out["score"], rtol=1e-5)


def test_one_row_of_an_optional_input_applies_to_all_rows(served, model):
    answer = served.predict(
        names.RECOMMEND, user_id=["u1", "u2"], history=padded([["i1"]], HISTORY)
    )
    for index, user in enumerate(["u1", "u2"]):
        check(row(answer, index), *expected(model, user, ["i1"], 4))


def test_uses_the_k_of_each_row(served, model):
    wanted = np.array([2, 5, 0, -3], np.int32)
    answer = served.predict(names.RECOMMEND, user_id=["u1", "u2", "u3", "u4"], k=wanted)
    assert answer["item_id"].shape == answer["score"].shape == (4, 5)
    for index, (user, k) in enumerate(zip(["u1", "u2", "u3", "u4"], [2, 5, 0, 0], strict=True)):
        check(row(answer, index), *expected(model, user, [], k))
        assert set(answer["item_id"][index, k:]) <= {b""}
        assert set(answer["score"][index, k:]) <= {-np.inf}


@pytest.mark.parametrize(("k", "width"), [(7, 7), (8, 7), (2**31 - 1, 7), (0, 0), (-5, 0)])
def test_caps_k_and_never_fails_for_it(served, k, width):
    answer = served.predict(names.RECOMMEND, user_id=["u1"], k=np.array([k], np.int32))
    assert answer["item_id"].shape == (1, width)


@pytest.mark.slow
@pytest.mark.parametrize("diversity", [np.nan, 0.5])
def test_returns_the_whole_catalogue_for_a_larger_k(model_of, serve, tmp_path, diversity):
    model = model_of("two_tower")
    size = model.spec.catalogue_size
    config = tm.ExportConfig(max_k=2 * size, history_width=HISTORY, exclude_width=3, diversity=True)
    answer = serve("wide", tm.export(model, tmp_path / "wide", config)).predict(
        names.RECOMMEND,
        user_id=["u1", "u2"],
        history=padded([["i1", "i2"], []], HISTORY),
        exclude=padded([["i3"], []], EXCLUDE),
        k=np.array([size + 5, 2], np.int32),
        diversity=np.array([diversity, np.nan], np.float32),
    )
    assert answer["item_id"].shape == (2, size)
    ids, scores = expected(model, "u1", ["i1", "i2"], size, exclude=["i3"])
    assert len(ids) == size - 3
    if np.isnan(diversity):
        check(row(answer, 0), ids, scores)
    assert sorted(answer["item_id"][0]) == sorted([b""] * 3 + [i.encode() for i in ids])
    check(row(answer, 1), *expected(model, "u2", [], 2))
    assert set(answer["item_id"][1, 2:]) == {b""}


def test_leaves_out_excluded_items_and_the_history(served, model):
    everything, _ = expected(model, "u5", ["i1"], 7)
    exclude = everything[:3]
    answer = served.predict(
        names.RECOMMEND,
        user_id=["u5"],
        history=padded([["i1"]], HISTORY),
        exclude=padded([exclude], EXCLUDE),
    )
    check(row(answer, 0), *expected(model, "u5", ["i1"], 4, exclude))


def test_a_filter_keeps_the_items_with_its_values(served, model, shop):
    table = shop.items.to_pydict()
    kinds = dict(zip(table["item_id"], table["category"], strict=True))
    wanted = sorted(set(kinds.values()))[:2]
    others = [item for item, kind in kinds.items() if kind not in wanted]
    answer = served.predict(
        names.RECOMMEND,
        user_id=["u1", "u1", "u1"],
        filter_category=padded([wanted, [], ["no such kind"]], FILTERS),
    )
    ids, scores = expected(model, "u1", [], 4, hidden_items=others)
    check(row(answer, 0), ids, scores)
    check(row(answer, 1), *expected(model, "u1", [], 4))
    assert set(answer["item_id"][2]) == {b""}


def test_a_joined_batch_gives_the_answers_of_its_requests(served, model, shop):
    segments = sorted(set(shop.users["segment"].to_pylist()))
    requests = [("u1", ["i1", "i2"], 3), ("nobody", [], 7), ("u7", ["never seen", "i9"], 1)]
    parts = [
        {
            "user_id": np.array([user], object),
            "history": padded([history], HISTORY),
            "k": np.array([k], np.int32),
            "exclude": padded([["i3"]], EXCLUDE),
            "segment": np.array([segments[index % len(segments)]], object),
            "device": np.array(["phone"], object),
            "age": np.array([31 + index], np.float32),
            "asked": np.array([1_700_000_000 + 90_000 * index]),
            "filter_category": padded([[]], FILTERS),
        }
        for index, (user, history, k) in enumerate(requests)
    ]
    joined = served.predict(
        names.RECOMMEND,
        **{name: np.concatenate([part[name] for part in parts]) for name in parts[0]},
    )
    for index, (part, (user, history, k)) in enumerate(zip(parts, requests, strict=True)):
        alone = served.predict(names.RECOMMEND, **part)
        features = {name: part[name] for name in ("segment", "device", "age", "asked")}
        check(row(joined, index), *expected(model, user, history, k, ["i3"], features=features))
        np.testing.assert_array_equal(joined["item_id"][index, :k], alone["item_id"][0])
        np.testing.assert_allclose(joined["score"][index, :k], alone["score"][0], rtol=1e-5)
        assert set(joined["item_id"][index, k:]) <= {b""}


def test_rank_equals_the_model_in_memory(served, model):
    items = ["i3", "i1", "never seen", "", "i2"]
    answer = served.predict(
        names.RANK,
        user_id=["u1"],
        item_id=[items],
        history=padded([["i9"]], HISTORY),
    )
    query = model.spec.encode_queries(["u1"], np.array([["i9"]], object))
    rows = model.spec.items.encode(items)[None, :]
    scores = np.where(np.array(items) == "", -np.inf, model.score(query, rows)[0])
    np.testing.assert_allclose(answer["score"][0], scores, rtol=1e-4, atol=1e-5)


def test_rank_examples_equals_the_model_in_memory(served, model):
    long_history = [f"i{i}" for i in range(1, 10)]  # longer than `history_width`
    rated = {
        "user_id": "u1",
        "history": long_history,
        "age": 40.0,
        "asked": 3_601,
        "item_id": "i20",
    }
    scores = served.client.rank_examples([rated, {"user_id": "nobody", "item_id": "i1"}])
    features = {"age": np.array([40.0], np.float32), "asked": [3_601]}
    query = model.spec.encode_queries(["u1"], np.array([long_history], object), features)
    row = model.spec.items.encode(["i20"])[None, :]
    np.testing.assert_allclose(scores[0], model.score(query, row)[0, 0], rtol=1e-4, atol=1e-5)
    row = model.spec.items.encode(["i1"])
    new_user = model.prior()[row[0] - 1]
    if model.targets:  # a rating or a click is predicted for the pair, not the prior
        new_user = model.score(model.spec.encode_queries(["nobody"]), row[None, :])[0, 0]
    np.testing.assert_allclose(scores[1], new_user, rtol=1e-4)


def test_explains_a_whole_number_where_an_example_needs_a_float(served):
    whole = {"user_id": "u1", "age": 40, "item_id": "i20"}
    with pytest.raises(InvalidRequest, match=r"(?s)age.*as floats, 40\.0 for 40"):
        served.client.rank_examples([whole])


def test_serving_default_equals_the_model_in_memory(served, model):
    serialised = [example({"user_id": "u1", "history": ["i1", "i2"]}), example({"user_id": "zz"})]
    answer = served.predict(names.SERVING_DEFAULT, examples=np.array(serialised, object))
    check(row(answer, 0), *expected(model, "u1", ["i1", "i2"], 4))
    check(row(answer, 1), *expected(model, "zz", [], 4))


def test_the_product_of_embeddings_is_the_score(served, model):
    if not model.has_embeddings:
        refusal = "signature key"
        with pytest.raises(grpc.RpcError, match=refusal):
            served.predict(names.EMBED_QUERY, user_id=["u1"])
        return
    table = model.items.slice(0, 2).to_pydict()
    items = served.predict(
        names.EMBED_ITEM,
        item_id=table["item_id"],
        category=table["category"],
        price=np.array(table["price"], np.float32),
        title=table["title"],
        picture=np.array(table["picture"], np.float32),
        released=np.array(table["released"], "datetime64[s]").astype(np.int64),
    )["embedding"]
    query = served.predict(names.EMBED_QUERY, user_id=["u1"])["embedding"]
    columns = model.spec.items.encode(table["item_id"]) - 1
    scores = model.score(model.spec.encode_queries(["u1"]))[0, columns]
    np.testing.assert_allclose((query @ items.T)[0], scores, rtol=1e-4, atol=1e-4)


def test_embeds_an_unseen_item_by_its_features(served, model):
    if not model.has_embeddings:
        return
    known = served.client.embed_item(item_id="brand new", category="c1", price=3.0)
    other = served.client.embed_item(item_id="brand new", category="c2", price=90.0)
    assert np.isfinite(known).all()
    assert np.array_equal(known, other) == (model.family in EMBED_ITEMS_BY_ID_ONLY)


RECOMMEND_WIDTHS = {"history": HISTORY, "exclude": EXCLUDE, "filter_category": FILTERS}


@pytest.mark.parametrize("name", sorted(RECOMMEND_WIDTHS))
@pytest.mark.parametrize("change", [-1, 1])
def test_refuses_a_wrong_width_and_names_the_input(served, name, change):
    wrong = [["i1"] * (RECOMMEND_WIDTHS[name] + change)]
    message = served.refusal(names.RECOMMEND, user_id=["u1"], **{name: wrong})
    assert f"`{name}` has the wrong shape" in message


@pytest.mark.parametrize("name", ["history", "exclude", "filter_category"])
def test_refuses_one_dimension_for_two_and_names_the_input(served, name):
    assert name in served.refusal(names.RECOMMEND, user_id=["u1"], **{name: ["i1"]})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("user_id", [["u1"]]),
        ("k", np.array([[4]], np.int32)),
        ("age", np.array([[4]], np.float32)),
        ("device", [["phone"]]),
    ],
)
def test_refuses_two_dimensions_for_one_and_names_the_input(served, name, value):
    inputs = {"user_id": ["u1"], name: value}
    assert name in served.refusal(names.RECOMMEND, **inputs)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("user_id", np.array("u1", object)),
        ("history", np.array("i1", object)),
        ("k", np.array(3, np.int32)),
    ],
)
def test_refuses_a_scalar_and_names_the_input(served, name, value):
    inputs = {"user_id": np.array(["u1"], object), name: value}
    assert f"`{name}` has the wrong shape" in served.refusal(names.RECOMMEND, **inputs)


def test_refuses_different_numbers_of_rows_and_names_the_input(served):
    message = served.refusal(
        names.RECOMMEND, user_id=["u1", "u2", "u3"], k=np.array([1, 2], np.int32)
    )
    assert "`k`" in message


def test_refuses_a_wrong_number_of_candidates_and_names_the_input(served):
    message = served.refusal(names.RANK, user_id=["u1"], item_id=[["i1"] * (CANDIDATES + 1)])
    assert "item_id" in message


def test_refuses_a_wrong_dtype_and_names_the_input(served):
    message = served.refusal(names.RECOMMEND, user_id=["u1"], k=np.array([3], np.int64))
    assert "`k`" in message
    assert "int32" in message
    assert "int64" in message


def test_refuses_a_request_without_a_required_input_and_names_it(served):
    assert "user_id" in served.refusal(names.RECOMMEND, k=np.array([3], np.int32))


def test_the_client_pads_to_the_exported_widths(served, model):
    answer = served.client.recommend(
        ["u1", "nobody"],
        [["i1"], [f"i{i}" for i in range(20)]],
        k=[2, 3],
        device="phone",
        asked=3_601,
    )
    assert [len(items) for items in answer] == [2, 3]
    features = {"device": ["phone"], "asked": [3_601]}
    ids, _ = expected(model, "u1", ["i1"], 2, features=features)
    assert [item.item_id for item in answer[0]] == ids


def test_the_catalogue_has_the_title_of_every_recommended_item(served, folder, shop):
    catalogue = Catalogue.read(folder)
    items = [answer.item_id for answer in served.client.recommend("u1", k=7)]
    table = shop.items.to_pydict()
    titles = dict(zip(table["item_id"], table["title"], strict=True))
    assert [catalogue.title(item) for item in items] == [titles[item] for item in items]


def test_leaves_out_the_whole_history_although_the_model_reads_its_latest_items(
    served, model, shop
):
    seen = [f"i{i}" for i in range(1, HISTORY + 1)]  # two more than the model reads
    assert len(seen) > model.spec.history_length
    answer = [item.item_id for item in served.client.recommend("u1", seen, k=7)]
    assert not set(answer) & set(seen)
    ids, _ = expected(model, "u1", seen, 7)
    assert answer == ids
