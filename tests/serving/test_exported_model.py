"""Exported models behind the server answer as the model in memory does.

What a real TF Serving would meet is sent raw: optional inputs left out, wrong widths, rows of
different `k`, and one request that joins several, as `--enable_batching` joins them.
"""

from tfrec_meta.serving import Catalogue, Client, LocalServer

import grpc
import numpy as np
import pytest

EXCLUDE, CANDIDATES, MAX_K = 5, 7, 20
USERS = ["u1", "u2", "nobody", ""]
HISTORIES = [["i1", "i2"], [], ["i3", "i1", "never seen"], ["i5"]]
EXCLUDED = [["i4"], [], ["i2", "i6"], []]
COUNTS = [3, 20, 1, 7]


@pytest.fixture(scope="module", params=["ease", "two_tower"])
def exported(request, tmp_path_factory):
    """(model in memory, address of the server that serves its export, base folder)"""
    import tfrec_meta as tm

    data = tm.synthetic(users=80, items=40, interactions=1200, seed=3)
    strategy = tm.Strategy(request.param)
    if request.param == "two_tower":
        strategy = tm.Strategy(request.param, training=tm.TrainingConfig(epochs=1))
    model = tm.train(data, strategy, progress=False)
    base = tmp_path_factory.mktemp(request.param) / "shop"
    tm.export(
        model,
        base,
        tm.ExportConfig(max_k=MAX_K, exclude_width=EXCLUDE, candidates_width=CANDIDATES),
    )
    with LocalServer(base) as server:
        yield model, server.address, base


@pytest.fixture(scope="module")
def predict(exported, stubs):
    """Sends raw arrays: predict(signature, user_id=[...], ...) gives the outputs as arrays."""
    import tensorflow as tf
    from tensorflow_serving.apis import predict_pb2

    _, address, _ = exported
    stub = stubs(address).prediction

    def send(signature, **inputs):
        request = predict_pb2.PredictRequest()
        request.model_spec.name = "shop"
        request.model_spec.signature_name = signature
        for name, value in inputs.items():
            request.inputs[name].CopyFrom(tf.make_tensor_proto(value))
        response = stub.Predict(request, timeout=30)
        return {name: tf.make_ndarray(value) for name, value in response.outputs.items()}

    return send


def _scores(model, user, history):
    """Score by item id, from the model in memory."""
    known = np.array([[*history]], object) if history else None
    scores = model.score(model.spec.encode_queries([user], known))[0]
    items = model.spec.items.decode(np.arange(1, len(scores) + 1))
    return dict(zip(items.tolist(), scores.tolist(), strict=True))


def _assert_best(model, answer, user, history=(), exclude=(), k=10):
    """`answer` [(item id, score)] holds the k best of the model in memory, whatever ties do."""
    scores = _scores(model, user, history)
    left = {item: score for item, score in scores.items() if item not in {*history, *exclude}}
    best = sorted(left.values(), reverse=True)[:k]
    np.testing.assert_allclose([score for _, score in answer], best, rtol=1e-4, atol=1e-4)
    assert len({item for item, _ in answer}) == len(answer)
    for item, score in answer:
        assert left[item] == pytest.approx(score, rel=1e-4, abs=1e-4)


def _rows(outputs):
    """[(item id, score)] a row; what stands past the row's own k is checked and cut."""
    rows = []
    for items, scores in zip(outputs["item_id"], outputs["score"], strict=True):
        shown = items != b""
        assert (np.diff(shown.astype(int)) <= 0).all()
        assert np.isneginf(scores[~shown]).all()
        assert not np.isnan(scores).any()
        rows.append(
            [(i.decode(), s) for i, s in zip(items[shown], scores[shown].tolist(), strict=True)]
        )
    return rows


def _padded(lists, width):
    return [row + [""] * (width - len(row)) for row in lists]


def test_client_gets_what_the_model_in_memory_says(exported):
    model, address, _ = exported
    with Client(address, "shop", timeout=30) as client:
        answers = client.recommend(USERS, HISTORIES, EXCLUDED, COUNTS)
        for answer, user, history, exclude, k in zip(
            answers, USERS, HISTORIES, EXCLUDED, COUNTS, strict=True
        ):
            pairs = [(each.item_id, each.score) for each in answer]
            _assert_best(model, pairs, user, history, exclude, k)
        ranked = client.rank("u1", [f"i{n}" for n in range(20)], history=["i1", "i2"])
    scores = _scores(model, "u1", ["i1", "i2"])
    assert [each.item_id for each in ranked] == sorted(
        [f"i{n}" for n in range(20)], key=lambda item: -{e.item_id: e.score for e in ranked}[item]
    )
    for each in ranked:
        if each.item_id in scores:
            assert each.score == pytest.approx(scores[each.item_id], rel=1e-4, abs=1e-4)


def test_each_optional_input_may_be_left_out(exported, predict):
    model, address, _ = exported
    with Client(address, "shop", timeout=30) as client:
        signature = client.metadata().signatures["recommend"]
    optional = set(signature.inputs) - {"user_id"}
    assert optional == set(signature.defaults)
    everything = {name: signature.defaults[name] for name in optional}
    everything["history"] = _padded([["i1", "i2"]], signature.defaults["history"].shape[1])
    everything["k"] = np.array([4], np.int32)
    for left_out in [*optional, None]:
        given = {name: value for name, value in everything.items() if name != left_out}
        (answer,) = _rows(predict("recommend", user_id=["u1"], **given))
        history = () if left_out == "history" else ("i1", "i2")
        _assert_best(model, answer, "u1", history, k=10 if left_out == "k" else 4)
    for user in USERS:  # all of them at once
        (answer,) = _rows(predict("recommend", user_id=[user]))
        _assert_best(model, answer, user)


@pytest.mark.parametrize("signature", ["recommend", "rank", "embed_query", "embed_item"])
def test_each_wrong_width_rank_and_dtype_is_an_invalid_argument_that_names_it(
    exported, predict, signature
):
    _, address, _ = exported
    with Client(address, "shop", timeout=30) as client:
        known = client.metadata().signatures.get(signature)
    if known is None:
        pytest.skip("this family has no such signature")
    right = dict(known.defaults)
    right |= {
        name: np.array([""], object) for name in ("user_id", "item_id") if name in known.inputs
    }
    if signature == "rank":
        right["item_id"] = np.array([[""] * CANDIDATES], object)
    predict(signature, **right)
    for name, array in right.items():
        wrong = [array[0], array[None]]  # a rank too low, a rank too high
        if array.ndim == 2:
            wrong += [array[:, 1:], np.concatenate([array, array[:, :1]], axis=1)]
        wrong.append(np.zeros(array.shape, np.uint8))
        for value in wrong:
            with pytest.raises(grpc.RpcError) as caught:
                predict(signature, **(right | {name: value}))
            assert caught.value.code() == grpc.StatusCode.INVALID_ARGUMENT
            assert name in caught.value.details()


def test_rows_of_different_k_and_joined_requests_answer_as_apart(exported, predict):
    model, address, _ = exported
    with Client(address, "shop", timeout=30) as client:
        width = client.metadata().signatures["recommend"].defaults["history"].shape[1]
    histories, excluded = _padded(HISTORIES, width), _padded(EXCLUDED, EXCLUDE)
    counts = [0, 1000, *COUNTS[2:]]  # below 1: blanks for that row only; above: capped
    joined = predict(
        "recommend",
        user_id=USERS,
        history=histories,
        exclude=excluded,
        k=np.array(counts, np.int32),
    )
    rows = _rows(joined)
    assert joined["item_id"].shape == joined["score"].shape == (4, MAX_K)
    assert list(map(len, rows)) == [0, MAX_K, 1, 7]
    for index, user in enumerate(USERS):
        apart = predict(
            "recommend",
            user_id=[user],
            history=histories[index : index + 1],
            exclude=excluded[index : index + 1],
            k=np.array(counts[index : index + 1], np.int32),
        )
        (alone,) = _rows(apart)
        assert [item for item, _ in alone] == [item for item, _ in rows[index]]
        k = min(counts[index], MAX_K)
        _assert_best(model, rows[index], user, HISTORIES[index], EXCLUDED[index], k)


def test_catalogue_names_every_recommended_item(exported):
    _, address, base = exported
    catalogue = Catalogue.read(base)
    with Client(address, "shop", timeout=30) as client:
        for each in client.recommend(k=MAX_K):
            assert each.item_id in catalogue
            assert catalogue.title(each.item_id) != each.item_id
