"""A BERT that reads a history and a candidate together, as a teacher."""

import dataclasses
import itertools

import numpy as np
import pyarrow as pa
import pytest
import tensorflow as tf

import tfrec_meta as tm
from tests.distillation.tiny_bert import write_tiny_bert
from tfrec_meta.content.item_text import item_texts
from tfrec_meta.distillation import (
    BertEncoder,
    CrossEncoder,
    CrossEncoderConfig,
    FineTuningConfig,
    MeanTeacher,
    fine_tuned_cross_encoder,
)
from tfrec_meta.distillation.cross_encoder import Events
from tfrec_meta.distillation.pairs import Pairs

KINDS = {"war": ["war", "army", "battle", "soldier"], "love": ["love", "kiss", "heart", "bride"]}
CONFIG = CrossEncoderConfig(
    FineTuningConfig(
        epochs=30, batch_size=16, learning_rate=3e-3, dropout=0.0, seed=1, checkpoint_every=2
    ),
    history_items=3,
    item_tokens=6,
    negatives=3,
    candidates=6,
)


@pytest.fixture(scope="module", params=["bert", "distilbert"])
def encoder(request, tmp_path_factory):
    return BertEncoder(write_tiny_bert(tmp_path_factory.mktemp("tiny"), request.param), 16)


@pytest.fixture(scope="module")
def films():
    titles = {
        f"{kind}{place}": f"{first} and {second}"
        for kind, words in KINDS.items()
        for place, (first, second) in enumerate(itertools.combinations(words, 2))
    }
    titles |= {"none": None, "long": "x" * 10_000, "wild": "電影 🎬"}
    pairs = [
        (f"{kind} {user}", f"{kind}{place}")
        for kind in KINDS
        for user in range(8)
        for place in range(1, 6)
        if (user + place) % 3
    ]
    users, items = zip(*pairs, strict=True)
    table = pa.table({"item_id": list(titles), "title": list(titles.values())})
    return tm.Interactions.from_arrays(users, items, items=table)


@pytest.fixture(scope="module")
def retriever(films):
    spec = tm.FeatureSpec(history_length=5).fit(films)
    return tm.train(films, tm.Strategy("popularity"), features=spec, progress=False)


def asked(spec, *histories):
    width = max(map(len, histories))
    padded = [[*history, *[""] * (width - len(history))] for history in histories]
    found = spec.encode_queries(["?"] * len(histories), np.array(padded, object))
    return {name: tf.constant(value) for name, value in found.items()}


def test_input_is_history_then_candidate_without_gaps(encoder, films, retriever):
    spec = retriever.spec
    teacher = CrossEncoder(encoder, retriever, item_texts(spec, films.items, ["title"]), CONFIG)
    query = asked(spec, ["war0", "love1", "none", "love2", "war3"], [])
    items = tf.constant(spec.items.encode(["love3", "none"]).astype(np.int32))
    ids, mask, types = (part.numpy() for part in teacher._pairs(query["history"], items))
    read = encoder.tokenizer.batch_decode([i[m > 0] for i, m in zip(ids, mask, strict=True)])
    assert read == [
        "[CLS] love and bride army and battle [SEP] kiss and heart [SEP]",
        "[CLS] [SEP] [SEP]",
    ]
    assert [row[m > 0].tolist() for row, m in zip(types, mask, strict=True)] == [
        [0] * 8 + [1] * 4,
        [0, 0, 1],
    ]
    assert (np.diff(mask, axis=1) <= 0).all()  # padding comes last


@pytest.mark.slow
def test_cross_encoder_learns_preferences_and_ranks_candidates(encoder, films, retriever):
    teacher = fine_tuned_cross_encoder(encoder, films, retriever, ["title"], CONFIG, progress=False)
    spec = teacher.spec
    scores = tf.function(teacher.logits_or_prior)
    query = asked(spec, ["war1", "war2"], ["love1", "love2"], [])
    found, retrieved = scores(query).numpy(), retriever.logits_or_prior(query).numpy()
    assert found.shape == (3, spec.catalogue_size)
    names = np.array(spec.items.decode(np.arange(1, spec.catalogue_size + 1)))
    for row, kind in enumerate(KINDS):
        own = np.isin(names, [f"{kind}1", f"{kind}2"])
        proposed = np.argsort(-np.where(own, -np.inf, retrieved[row]), kind="stable")[:6]
        assert set(np.argsort(-found[row])[:6]) == set(proposed)
        order = [name for name in names[np.argsort(-found[row])][:6] if name[:-1] in KINDS]
        assert order[0].startswith(kind)
        assert order[-1].startswith({"war": "love", "love": "war"}[kind])
    np.testing.assert_array_equal(found[2], retrieved[2])  # a user without events
    one = asked(spec, ["war1", "war2"])
    np.testing.assert_allclose(scores(one), found[:1], atol=1e-4)
    state = teacher.state()
    assert any(name.startswith("retriever/") for name in state)
    assert all(np.isfinite(value).all() for value in state.values())
    mean = MeanTeacher([teacher, retriever])  # it can be a member of a mean
    assert mean.logits_or_prior(one).shape == (1, spec.catalogue_size)
    assert not mean.has_embeddings


@pytest.mark.slow
def test_student_learns_from_a_cross_encoder(encoder, films, retriever):
    texts = item_texts(retriever.spec, films.items, ["title"])
    teacher = CrossEncoder(encoder, retriever, texts, CONFIG)
    student = tm.Strategy(
        "two_tower",
        tm.TwoTowerConfig(embedding_dim=4, negatives="full"),
        tm.TrainingConfig(epochs=1, batch_size=64),
    )
    model = tm.train(films, student, teacher=teacher, features=retriever.spec, progress=False)
    assert np.isfinite(model.curve[-1]["loss"])


@pytest.mark.slow
@pytest.mark.parametrize("method", ["lora", "prefix"])
def test_few_weights_are_trained_in_bfloat16_and_after_a_kill(
    encoder, films, retriever, tmp_path, monkeypatch, method
):
    recipe = dataclasses.replace(CONFIG.fine_tuning, method=method, epochs=1, accumulation=2)
    recipe = dataclasses.replace(
        recipe, mixed_precision=method == "lora", batch_size=8, dropout=0.1
    )
    config = dataclasses.replace(CONFIG, fine_tuning=recipe)

    def made(folder=None):
        return fine_tuned_cross_encoder(
            encoder, films, retriever, ["title"], config, folder, progress=False
        )

    whole = made()
    drawn = Events.batches

    def killed(self, step):
        if step == 3:
            raise KeyboardInterrupt
        return drawn(self, step)

    with monkeypatch.context() as patch:
        patch.setattr(Events, "batches", killed)
        with pytest.raises(KeyboardInterrupt):
            made(tmp_path)
    found = made(tmp_path)
    for name, value in whole.state().items():
        np.testing.assert_array_equal(found.state()[name], value, err_msg=name)
    assert found.model.compute_dtype == "float32"


def test_batches_have_positives_histories_and_negatives(films, retriever):
    pairs = Pairs.of(films, retriever.spec)
    events = Events(pairs, dataclasses.replace(CONFIG, negatives=4))
    epochs, met = CONFIG.fine_tuning.epochs, set(pairs.rows)
    assert events.steps == -(-epochs * len(pairs.rows) // 16)
    seen = []
    for step in range(events.steps):
        (batch,) = events.batches(step)
        for items, history in zip(batch["items"], batch["history"], strict=True):
            (users,) = np.nonzero(pairs.has_item[:, items[0]].toarray()[:, 0])
            read = history[history > 0]
            assert len(read) == min(3, len(set(read)))
            assert items[0] not in read
            owners = [u for u in users if not pairs.has_item[u][:, items[1:]].nnz]
            assert any(pairs.has_item[u][:, read].nnz == len(read) for u in owners)
            assert set(items[1:]) <= met
        seen += batch["items"][:, 0].tolist()
        assert all((batch[k] == events.batches(step)[0][k]).all() for k in batch)
    assert sorted(seen) == sorted(pairs.rows.tolist() * epochs)


def test_user_who_has_all_items_gets_negatives_without_text():
    data = tm.Interactions.from_arrays(["u", "u"], ["a", "b"])
    pairs = Pairs.of(data, tm.FeatureSpec().fit(data))
    (batch,) = Events(pairs, CONFIG).batches(0)
    assert (batch["items"][:, 1:] == 0).all()


@pytest.mark.parametrize("name", ["history_items", "item_tokens", "negatives", "candidates"])
def test_sizes_below_1_are_refused(name):
    with pytest.raises(ValueError, match=f"`{name}`=0"):
        CrossEncoderConfig(**{name: 0})


def test_mismatched_sizes_are_refused(encoder, films, retriever):
    texts = item_texts(retriever.spec, films.items, ["title"])
    with pytest.raises(ValueError, match=r"make 67 tokens, but .* reads 64"):
        CrossEncoder(encoder, retriever, texts, CrossEncoderConfig(history_items=15, item_tokens=4))
    with pytest.raises(ValueError, match="`texts` has 1 texts; use 15"):
        CrossEncoder(encoder, retriever, texts[:1], CONFIG)
    teacher = CrossEncoder(encoder, retriever, texts, CONFIG)
    with pytest.raises(NotImplementedError, match="no item embeddings"):
        teacher.item_embeddings()
    bare = dataclasses.replace(films, items=None)
    with pytest.raises(ValueError, match="no items table"):
        fine_tuned_cross_encoder(encoder, bare, retriever, ["title"], CONFIG, progress=False)
