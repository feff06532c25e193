"""The content tower."""

import dataclasses

import numpy as np
import pyarrow as pa
import pytest
import tensorflow as tf

import tfrec_meta as tm
from tfrec_meta.models import ContentTower, ContentTowerConfig, EASEConfig


@pytest.fixture(scope="module")
def data():
    """Two kinds of users; each is after one kind of item. Items c0 and d0 nobody has touched."""
    pairs = [(f"u{u}", f"{'ab'[u % 2]}{i}") for u in range(12) for i in range(6) if (u + i) % 3]
    users, items = zip(*pairs, strict=True)
    known = sorted({*items, "c0", "d0"})
    kind = {"a": "war", "b": "love", "c": "war", "d": "love"}
    table = pa.table(
        {"item_id": known, "kind": [[kind[item[0]], f"of {item[1]}"] for item in known]}
    )
    return tm.Interactions.from_arrays(users, items, time=np.arange(len(pairs)), items=table)


RECIPE = tm.TrainingConfig(epochs=40, batch_size=16, learning_rate=0.02, history="leave_one_out")


@pytest.fixture(scope="module")
def model(data):
    config = ContentTowerConfig(embedding_dim=8, hidden=(16,), dropout=0.1)
    return tm.train(data, tm.Strategy("content_tower", config, RECIPE), progress=False)


def scores_of(model, history):
    queries = model.spec.encode_queries(["?"], np.array([history], object))
    tokens = model.spec.items.decode(np.arange(1, model.spec.catalogue_size + 1))
    return dict(zip(tokens, model.score(queries)[0], strict=True))


def test_an_item_without_events_is_scored_by_its_features(model):
    war, love = scores_of(model, ["a1", "a2"]), scores_of(model, ["b1", "b2"])
    assert war["c0"] > war["d0"] + 1
    assert love["d0"] > love["c0"] + 1
    assert war["c0"] > max(war[f"b{i}"] for i in range(6))


def test_an_item_without_events_counts_in_a_history(model):
    found = scores_of(model, ["c0"])
    assert found["a1"] > found["b1"] + 1


def test_there_are_no_item_embeddings(model):
    assert model.item_embedding is None
    assert all(len(v.shape) < 2 or v.shape[0] != 15 for v in model.trainable_variables)


def test_dropout_is_applied_only_in_training(data, model):
    batch = {
        "user_id": tf.constant([1, 2]),
        "history": tf.constant([[1, 2], [3, 0]]),
        "item_id": tf.constant([3, 4]),
    }
    model.optimizer.iterations.assign(7)
    once, again = (float(model.compute_loss(batch, training=False)) for _ in range(2))
    assert once == again
    model_of_more = ContentTower(
        ContentTowerConfig(embedding_dim=8, hidden=(16,), dropout=0.5), model.spec
    )
    model_of_more.prepare(data)
    for own, other in zip(model_of_more._saved_weights(), model._saved_weights(), strict=True):
        own.assign(other)
    assert float(model_of_more.compute_loss(batch)) == pytest.approx(once, rel=1e-5)
    model_of_more.optimizer = model.optimizer
    assert float(model_of_more.compute_loss(batch, training=True)) != pytest.approx(once, rel=1e-3)


def test_in_batch_negatives_of_all_items_equal_the_full_loss(data):
    """A batch that chose every item that training met is compared with all of them either way."""
    config = ContentTowerConfig(embedding_dim=8, hidden=(16, 12), dropout=0.0, logq="none")
    whole = ContentTower(config, tm.FeatureSpec.infer(data, 4).fit(data))
    whole.prepare(data)
    part = ContentTower(dataclasses.replace(config, negatives="in_batch"), whole.spec)
    part.prepare(data)
    for own, other in zip(part._saved_weights(), whole._saved_weights(), strict=True):
        own.assign(other)
    items = tf.range(1, 13)
    batch = {
        "user_id": tf.range(1, 13),
        "history": tf.stack([tf.roll(items, 1, 0), tf.zeros_like(items)], axis=1),
        "item_id": items,
    }
    assert float(part.compute_loss(batch)) == pytest.approx(
        float(whole.compute_loss(batch)), rel=1e-5
    )


@pytest.mark.slow
def test_a_student_of_ease_ranks_like_its_teacher(data):
    teacher = tm.train(data, tm.Strategy("ease", EASEConfig(l2=1.0)))
    config = ContentTowerConfig(embedding_dim=8, hidden=(32,), dropout=0.0, teacher_weight=1.0)
    recipe = dataclasses.replace(RECIPE, epochs=150, weight_decay=0.0)
    strategy = tm.Strategy("content_tower", config, recipe)
    student = tm.train(data, strategy, teacher=teacher, progress=False)
    history = ["a1", "a2", "a4"]
    taught, said = scores_of(teacher, history), scores_of(student, history)
    unseen = [item for item in taught if item not in history]  # seen items are masked
    both = np.array([[scores[item] for item in unseen] for scores in (taught, said)])
    assert np.corrcoef(both)[0, 1] > 0.8
    assert unseen[np.argmax(both[0])] == unseen[np.argmax(both[1])]


@pytest.mark.slow
def test_the_projection_to_the_teachers_vectors_is_not_saved(data, tmp_path):
    config = ContentTowerConfig(embedding_dim=8, hidden=(16,), teacher_vectors="cosine")
    teacher = tm.train(data, tm.Strategy("ials", history_length=200), progress=False)
    strategy = tm.Strategy("content_tower", config, RECIPE)
    student = tm.train(data, strategy, teacher=teacher, progress=False)
    assert student.teacher_loss.projection.shape[0] == 8
    assert not any("projection" in name for name in student.state())
    tm.save(student, tmp_path / "model")
    queries = student.spec.encode_queries(["?"], np.array([["a1"]], object))
    np.testing.assert_allclose(
        tm.load(tmp_path / "model").score(queries), student.score(queries), rtol=1e-5, atol=1e-6
    )


def test_a_warm_start_copies_tokens_and_layers(data, model):
    more = pa.concat_tables(
        [data.items, pa.table({"item_id": ["e0"], "kind": [["peace", "of 0"]]})]
    )
    grown = dataclasses.replace(data, items=more)
    began = ContentTower(model.config, model.spec.fit(grown))
    began.prepare(grown)
    began.warm_start(model)
    began.refresh()
    queries = model.spec.encode_queries(["?"], np.array([["a1", "c0"]], object))
    before = model.score(queries)
    np.testing.assert_allclose(began.score(queries)[:, : before.shape[1]], before, rtol=1e-5)
    wider = ContentTower(dataclasses.replace(model.config, hidden=(8,)), model.spec)
    with pytest.raises(ValueError, match="`hidden`=\\(8,\\) cannot start"):
        wider.warm_start(model)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"embedding_dim": 0}, "`embedding_dim`=0; use 1"),
        ({"hidden": (0,)}, "`hidden`=.*; use values"),
        ({"dropout": 1.0}, "`dropout`=1.0; use a share"),
        ({"loss": "cosine_contrastive"}, "compares cosines"),
    ],
)
def test_values_out_of_range_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        ContentTowerConfig(**options)


def test_items_without_features_are_refused(data):
    bare = tm.Interactions.from_arrays(["u"], ["i"])
    with pytest.raises(ValueError, match="represents items by their features"):
        tm.train(bare, "content_tower")


def test_windows_are_refused(data):
    strategy = tm.Strategy("content_tower", training=tm.TrainingConfig(rows="windows"))
    with pytest.raises(ValueError, match="of family 'content_tower'"):
        tm.train(data, strategy, progress=False)
