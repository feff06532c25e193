"""The signature `adapt` recommends for a support set as the model in memory does."""

import json

import numpy as np
import pytest
import tensorflow as tf

import tfrec_meta as tm
from tfrec_meta.commands import main as cli
from tfrec_meta.export import signatures as names
from tfrec_meta.serving import InvalidRequest

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
    """Request tensors, padded to the exported widths."""
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


def check(answer, row, expected):
    assert listed(answer, row) == [item.item_id for item in expected.items]
    scores = [item.score for item in expected.items]
    np.testing.assert_allclose(answer["score"][row][: len(scores)], scores, rtol=1e-5, atol=1e-5)
    assert answer["support_used"][row] == expected.support_used


def test_the_reloaded_model_equals_the_model_in_memory(model, signature):
    support = [["i3", "i7", "never seen"], [], ["i1"], ["i2", "i4", "i6", "i8", "i9", "i10"]]
    exclude = [["i5"], [], ["i2", "nobody knows it"], []]
    answer = signature(**inputs(support, k=30, exclude=exclude))
    for row, expected in enumerate(tm.adapt(model, support, k=30, exclude=exclude)):
        check(answer, row, expected)
    assert list(answer["support_used"]) == [2, 0, 1, 6]
    assert answer["support_used"].dtype == np.int32


def test_uses_the_labels(model, signature):
    labels = np.array([[1.0, 0.0, 0.5, 1.0, 1.0, 1.0]], np.float32)
    answer = signature(**inputs([["i3", "i7", "i9"]], labels))
    (expected,) = tm.adapt(model, [{"i3": 1.0, "i7": 0.0, "i9": 0.5}], k=4)
    check(answer, 0, expected)


def test_an_invalid_label_affects_no_other_row(model, signature):
    labels = np.ones([3, SUPPORT], np.float32)
    labels[0] = np.nan
    labels[1] = np.inf
    answer = signature(**inputs([["i3"], ["i4"], ["i5"]], labels))
    check(answer, 2, tm.adapt(model, [["i5"]], k=4)[0])
    filled = answer["item_id"] != b""
    assert np.isfinite(answer["score"][filled]).all()


def test_uses_the_k_of_each_row(signature):
    given = inputs([["i3"], ["i3"], ["i3"]])
    answer = signature(**{**given, "k": tf.constant([3, 0, -1])})
    assert [len(listed(answer, row)) for row in range(3)] == [3, 0, 0]


def test_a_row_does_not_depend_on_other_rows(signature):
    alone = signature(**inputs([["i3", "i7"]]))
    together = signature(**inputs([["i9"], ["i3", "i7"], []]))
    assert listed(alone, 0) == listed(together, 1)
    np.testing.assert_allclose(alone["score"][0], together["score"][1], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("name", "value"),
    [("item_id", tf.constant([["i3"]])), ("label", tf.ones([1, SUPPORT + 1]))],
)
def test_refuses_a_wrong_width_and_names_the_input(signature, name, value):
    with pytest.raises(tf.errors.InvalidArgumentError, match=f"`{name}` has the wrong shape"):
        signature(**{**inputs([["i3"]]), name: value})


@pytest.fixture(scope="module")
def served(serve, folder):
    return serve("newcomers", folder)


def test_the_local_server_equals_the_model_in_memory(model, served):
    support = [["i3", "i7", "never seen"], []]
    answer = served.predict(names.ADAPT, **inputs(support))
    for row, expected in enumerate(tm.adapt(model, support, k=4)):
        check(answer, row, expected)


def test_fills_in_the_defaults_of_optional_inputs(model, served):
    answer = served.predict(names.ADAPT, item_id=inputs([["i3", "i7"]])["item_id"])
    check(answer, 0, tm.adapt(model, [["i3", "i7"]], k=4)[0])


def test_the_client_adapts(model, served):
    support = [["i3", "never seen"], {"i7": 1.0, "i9": 0.0}, []]
    expected = tm.adapt(model, support, k=4, exclude=[["i1"], [], []])
    found = served.client.adapt(support, exclude=[["i1"], [], []], k=4)
    assert served.client.adapt([]) == []
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
def test_the_client_refuses_an_invalid_support_set(served, support, message):
    with pytest.raises(InvalidRequest, match=message):
        served.client.adapt(support)


def test_the_command_adapts(model, served, folder, capsys):
    arguments = ["adapt", "--server", served.client.address, "--model", "newcomers", "-k", "3"]
    items = ["--items", "i3,i7=0,never seen", "--titles", str(folder.parent)]
    assert cli.main([*arguments, *items, "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    (expected,) = tm.adapt(model, [{"i3": 1.0, "i7": 0.0}], k=3)
    listed = [one["item_id"] for one in answer["recommendations"]]
    assert listed == [item.item_id for item in expected.items]
    assert answer["support_used"] == 2
    assert cli.main([*arguments, "--items", "i3,nobody"]) == 0
    shown = capsys.readouterr()
    assert "warning: the model knows 1 of the 2 items." in shown.err
    assert shown.out.count("\n") == 3
    assert cli.main([*arguments, "--items", "i3=much"]) == 1
    assert "use an id, or an id and a number" in capsys.readouterr().err


@pytest.mark.slow
def test_the_client_adapts_a_model_of_ratings_by_ratings_and_features(
    shop, model_of, served_of, capsys
):
    model, served = model_of("meta_ranker"), served_of("meta_ranker")
    client = served.client
    support = [{"i1": 5.0, "i2": 2.0}, {"i3": None}]
    best = float(shop.events["value"].to_numpy().max())
    found = client.adapt(support, k=3, age=[25.0, 60.0])
    found += client.adapt([["i3"]], k=3)
    with pytest.raises(InvalidRequest, match="label 'five'; use a rating"):
        client.adapt([{"i1": "five"}])
    with pytest.raises(InvalidRequest, match="no feature 'height'"):
        client.adapt([["i1"]], height=[1.8])
    arguments = ["adapt", "--server", client.address, "--model", "meta_ranker"]
    assert cli.main([*arguments, "--items", "i1=5,i3", "-k", "3", "--json"]) == 0
    labelled = [support[0], {"i3": best}]
    expected = tm.adapt(model, labelled, k=3, features={"age": [25.0, 60.0]})
    expected += tm.adapt(model, [{"i3": best}, {"i1": 5.0, "i3": best}], k=3)
    scores = [[item.score for item in one.items] for one in found]
    printed = json.loads(capsys.readouterr().out)["recommendations"]
    scores.append([item["score"] for item in printed])
    for got, wanted in zip(scores, expected, strict=True):
        np.testing.assert_allclose(got, [item.score for item in wanted.items], rtol=1e-4)


def test_a_family_that_does_not_adapt_lacks_the_signature(tmp_path):
    data = tm.synthetic(users=20, items=10, interactions=100, seed=3)
    folder = tm.export(tm.train(data, "popularity"), tmp_path / "m")
    assert names.ADAPT not in tf.saved_model.load(str(folder)).signatures
