"""The signature `adapt`: support sets in, recommendations out, as the model in memory answers."""

import json

import grpc
import numpy as np
import pytest
import tensorflow as tf

import tfrec_meta as tm
from tfrec_meta.commands import main as cli
from tfrec_meta.export import signatures as names
from tfrec_meta.serving import Client, InvalidRequest, LocalServer
from tfrec_meta.serving.protocol.messages import PredictRequest, PredictResponse
from tfrec_meta.serving.protocol.tensors import decode, encode

SUPPORT, EXCLUDE = 6, 3


@pytest.fixture(scope="module")
def model():
    data = tm.synthetic(users=200, items=30, interactions=2400, seed=3)
    config = tm.MetaLearnedConfig(embedding_dim=8, shots=5, folds=2, steps=5)
    return tm.train(data, tm.Strategy("meta_learned", config), progress=False)


@pytest.fixture(scope="module")
def folder(model, tmp_path_factory):
    config = tm.ExportConfig(
        history_width=4, k=4, max_k=30, exclude_width=EXCLUDE, support_width=SUPPORT
    )
    return tm.export(model, tmp_path_factory.mktemp("exported") / "newcomers", config)


@pytest.fixture(scope="module")
def signature(folder):
    loaded = tf.saved_model.load(str(folder))
    return lambda **inputs: {
        name: value.numpy() for name, value in loaded.signatures[names.ADAPT](**inputs).items()
    }


def inputs(support, labels=None, k=4, exclude=None):
    """What a caller sends: rows padded to the exported widths."""
    rows = [list(row) + [""] * (SUPPORT - len(row)) for row in support]
    exclude = exclude or [[] for _ in rows]
    return {
        "item_id": tf.constant(rows),
        "label": tf.ones([len(rows), SUPPORT]) if labels is None else tf.constant(labels),
        "k": tf.fill([len(rows)], k),
        "exclude": tf.constant([list(row) + [""] * (EXCLUDE - len(row)) for row in exclude]),
    }


def listed(answer, row):
    return [item.decode() for item in answer["item_id"][row] if item]


def agrees(answer, row, expected):
    assert listed(answer, row) == [item.item_id for item in expected.items]
    scores = [item.score for item in expected.items]
    np.testing.assert_allclose(answer["score"][row][: len(scores)], scores, rtol=1e-5, atol=1e-5)
    assert answer["support_used"][row] == expected.support_used


def test_the_reloaded_model_answers_as_the_one_in_memory(model, signature):
    support = [["i3", "i7", "never seen"], [], ["i1"], ["i2", "i4", "i6", "i8", "i9", "i10"]]
    exclude = [["i5"], [], ["i2", "nobody knows it"], []]
    answer = signature(**inputs(support, k=30, exclude=exclude))
    for row, expected in enumerate(tm.adapt(model, support, k=30, exclude=exclude)):
        agrees(answer, row, expected)
    assert list(answer["support_used"]) == [2, 0, 1, 6]
    assert answer["support_used"].dtype == np.int32


def test_labels_are_heeded(model, signature):
    labels = np.array([[1.0, 0.0, 0.5, 1.0, 1.0, 1.0]], np.float32)
    answer = signature(**inputs([["i3", "i7", "i9"]], labels))
    (expected,) = tm.adapt(model, [{"i3": 1.0, "i7": 0.0, "i9": 0.5}], k=4)
    agrees(answer, 0, expected)


def test_bad_values_spoil_no_row(model, signature):
    labels = np.ones([3, SUPPORT], np.float32)
    labels[0] = np.nan
    labels[1] = np.inf
    answer = signature(**inputs([["i3"], ["i4"], ["i5"]], labels))
    agrees(answer, 2, tm.adapt(model, [["i5"]], k=4)[0])
    filled = answer["item_id"] != b""
    assert np.isfinite(answer["score"][filled]).all()


def test_each_row_has_its_own_k(signature):
    asked = inputs([["i3"], ["i3"], ["i3"]])
    answer = signature(**{**asked, "k": tf.constant([3, 0, -1])})
    assert [len(listed(answer, row)) for row in range(3)] == [3, 0, 0]


def test_a_row_does_not_depend_on_its_neighbours(signature):
    alone = signature(**inputs([["i3", "i7"]]))
    beside = signature(**inputs([["i9"], ["i3", "i7"], []]))
    assert listed(alone, 0) == listed(beside, 1)
    np.testing.assert_allclose(alone["score"][0], beside["score"][1], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("name", "value"),
    [("item_id", tf.constant([["i3"]])), ("label", tf.ones([1, SUPPORT + 1]))],
)
def test_a_wrong_width_is_refused_by_name(signature, name, value):
    with pytest.raises(tf.errors.InvalidArgumentError, match=f"`{name}` has the wrong shape"):
        signature(**{**inputs([["i3"]]), name: value})


@pytest.fixture(scope="module")
def server(folder):
    running = LocalServer(folder.parent)
    yield running.start()
    running.stop(0)


@pytest.fixture(scope="module")
def ask(server):
    """One Predict call with these tensors and no others."""

    def predict(**given):
        request = PredictRequest()
        request.model_spec.name, request.model_spec.signature_name = "newcomers", names.ADAPT
        for name, value in given.items():
            encode(value.numpy(), request.inputs[name])
        with grpc.insecure_channel(server.address) as channel:
            call = channel.unary_unary(
                "/tensorflow.serving.PredictionService/Predict",
                request_serializer=lambda message: message.SerializeToString(),
                response_deserializer=PredictResponse.FromString,
            )
            outputs = call(request, timeout=20).outputs
        return {name: decode(proto) for name, proto in outputs.items()}

    return predict


def test_the_local_server_answers_the_same(model, ask):
    support = [["i3", "i7", "never seen"], []]
    answer = ask(**inputs(support))
    for row, expected in enumerate(tm.adapt(model, support, k=4)):
        agrees(answer, row, expected)


def test_what_may_be_left_out_has_its_default(model, ask):
    answer = ask(item_id=inputs([["i3", "i7"]])["item_id"])
    agrees(answer, 0, tm.adapt(model, [["i3", "i7"]], k=4)[0])


def test_the_client_adapts(model, server):
    support = [["i3", "never seen"], {"i7": 1.0, "i9": 0.0}, []]
    expected = tm.adapt(model, support, k=4, exclude=[["i1"], [], []])
    with Client(server.address, "newcomers") as client:
        found = client.adapt(support, exclude=[["i1"], [], []], k=4)
        assert client.adapt([]) == []
        for one, other in zip(found, expected, strict=True):
            assert [item.item_id for item in one.items] == [item.item_id for item in other.items]
            assert one.support_used == other.support_used


@pytest.mark.parametrize(
    ("support", "message"),
    [
        ([[f"i{row}" for row in range(7)]], "7 items, but the model was exported for 6"),
        ([{"i3": 1.5}], "label 1.5"),
        ([{"i3": "yes"}], "label 'yes'"),
        ([[3]], "ids are text"),
        (["i3"], "ids"),
    ],
)
def test_the_client_refuses_what_cannot_be_a_support_set(server, support, message):
    with (
        Client(server.address, "newcomers") as client,
        pytest.raises(InvalidRequest, match=message),
    ):
        client.adapt(support)


def test_the_command_adapts(model, server, folder, capsys):
    asked = ["adapt", "--server", server.address, "--model", "newcomers", "-k", "3"]
    items = ["--items", "i3,i7=0,never seen", "--titles", str(folder.parent)]
    assert cli.main([*asked, *items, "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    (expected,) = tm.adapt(model, [{"i3": 1.0, "i7": 0.0}], k=3)
    listed = [one["item_id"] for one in answer["recommendations"]]
    assert listed == [item.item_id for item in expected.items]
    assert answer["support_used"] == 2
    assert cli.main([*asked, "--items", "i3,nobody"]) == 0
    shown = capsys.readouterr()
    assert "warning: the model knows 1 of the 2 items." in shown.err
    assert shown.out.count("\n") == 3
    assert cli.main([*asked, "--items", "i3=much"]) == 1
    assert "a label is a number" in capsys.readouterr().err


def test_the_client_adapts_a_model_of_ratings_by_ratings_and_features(tmp_path, capsys):
    data = tm.synthetic(users=60, items=40, interactions=900, seed=4)
    features = tm.FeatureSpec(user=(tm.Number("age"),), item=(tm.Category("category"),))
    config = tm.MetaRankerConfig(embedding_dim=4, hidden=(8,), steps=10, tasks_per_step=8)
    rater = tm.train(data, tm.Strategy("meta_ranker", config, features=features), progress=False)
    tm.export(rater, tmp_path / "raters", tm.ExportConfig(history_width=4, support_width=4))
    support = [{"i1": 5.0, "i2": 2.0}, {"i3": None}]
    best = float(data.events["value"].to_numpy().max())
    with LocalServer(tmp_path / "raters", port=0) as own:
        with Client(own.address, "raters") as client:
            found = client.adapt(support, k=3, age=[25.0, 60.0])
            unknown_age = client.adapt([["i3"]], k=3)
            with pytest.raises(InvalidRequest, match="label 'five'; use a rating"):
                client.adapt([{"i1": "five"}])
            with pytest.raises(InvalidRequest, match="no feature 'height'"):
                client.adapt([["i1"]], height=[1.8])
        asked = ["adapt", "--server", own.address, "--model", "raters", "--items", "i1=5,i3"]
        assert cli.main([*asked, "-k", "3", "--json"]) == 0
    told = [support[0], {"i3": best}]
    expected = tm.adapt(rater, told, k=3, features={"age": [25.0, 60.0]})
    expected += tm.adapt(rater, [{"i3": best}, {"i1": 5.0, "i3": best}], k=3)
    scores = [[item.score for item in one.items] for one in (*found, *unknown_age)]
    said = json.loads(capsys.readouterr().out)["recommendations"]
    scores.append([item["score"] for item in said])
    for got, wanted in zip(scores, expected, strict=True):
        np.testing.assert_allclose(got, [item.score for item in wanted.items], rtol=1e-4)


def test_a_family_that_does_not_adapt_has_no_such_signature(tmp_path):
    data = tm.synthetic(users=20, items=10, interactions=100, seed=3)
    folder = tm.export(tm.train(data, "popularity"), tmp_path / "m")
    assert names.ADAPT not in tf.saved_model.load(str(folder)).signatures
