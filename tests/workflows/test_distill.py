"""Distillation from end to end: teachers, student, comparison and report."""

import itertools
import math

import numpy as np
import pyarrow as pa
import pytest
import scipy.sparse
import tensorflow as tf
from tensorflow.core.protobuf import saved_model_pb2
from tensorflow.python.framework import op_def_registry

import tfrec_meta as tm
from tests.distillation.tiny_bert import write_tiny_bert
from tfrec_meta.content.text_vectors import TEXT_VECTOR
from tfrec_meta.distillation import BertEncoder, FineTuningConfig, Role, item_slices
from tfrec_meta.models import ContentTower, EASEConfig
from tfrec_meta.workflows import distill as distilling

QUICK = tm.TrainingConfig(epochs=3, batch_size=128)


@pytest.fixture(scope="module")
def split():
    data = tm.synthetic(users=60, items=40, interactions=900, seed=3)
    return tm.split_cold_items(data, test=0.2, seed=1)


@pytest.fixture(scope="module")
def found(split, tmp_path_factory):
    folder = tmp_path_factory.mktemp("distilled")
    model = tm.ContentTowerConfig(embedding_dim=8, hidden=(16,), teacher_weight=0.5)
    strategy = tm.Strategy("content_tower", model, QUICK)
    teacher = tm.Strategy("ease", EASEConfig(l2=5.0))
    return folder, tm.distill(
        split, teacher, strategy, folder=folder, k=5, resamples=50, progress=False
    )


def test_teacher_is_trained_and_the_student_compared_by_slice(found):
    _, distilled = found
    assert isinstance(distilled.student, ContentTower)
    assert distilled.teacher.family == "ease"
    assert distilled.undistilled.teacher_loss is None
    assert list(distilled.report.models) == [Role.TEACHER, Role.STUDENT, Role.UNDISTILLED]
    assert distilled.report.slices == ["all_items", "long_tail", "cold_items"]
    assert distilled.report.as_dict()["student"]["slices"]["cold_items"]["counts"]["queries"] > 0


def test_refuses_long_lists_before_it_trains(split, monkeypatch):
    monkeypatch.setattr(distilling, "train", None)
    with pytest.raises(ValueError, match="`k`=41, but the catalogue has 40 items"):
        tm.distill(split, "ease", k=41)


def test_metrics_equal_those_of_the_full_catalogue_protocol(found, split):
    _, distilled = found
    whole = tm.evaluate(distilled.student, split, k=5, baselines=(), resamples=50)["content_tower"]
    own = distilled.report.models[Role.STUDENT].evaluations["all_items"]
    assert own["ndcg@5"].value == pytest.approx(whole["ndcg@5"].value, abs=1e-6)
    assert own.counts["relevant"] == whole.counts["relevant"]
    cold = [
        distilled.report.models[name].evaluations["cold_items"]["ndcg@5"].value
        for name in (Role.STUDENT, Role.TEACHER)
    ]
    assert distilled.report.retained("cold_items") == pytest.approx(cold[0] / cold[1])
    assert math.isnan(distilled.report.retained())  # EASE puts no cold item before any other


def test_cold_items_are_ranked_separately(found, split):
    _, distilled = found
    cold = distilled.report.models[Role.STUDENT].evaluations["cold_items"]
    met = np.unique(split.train.item_ids)
    catalogue = distilled.student.spec.catalogue_size
    assert cold.counts["candidates"] == catalogue - len(met)


def test_table_and_page_show_all_three_models(found):
    folder, distilled = found
    text = str(distilled.report)
    for part in (
        "cold items: ",
        "long tail: ",
        "the student retains ",
        "parameters",
        "ms per query",
    ):
        assert part in text
    html = (folder / "report.html").read_text("utf-8")
    assert "Cold items" in html
    assert "undistilled" in html
    assert "<script" not in html


def test_several_teachers_by_name_and_events_without_a_split(split):
    distilled = tm.distill(
        split.train,
        ["ease", "popularity"],
        tm.Strategy("two_tower", tm.TwoTowerConfig(embedding_dim=8, negatives="full"), QUICK),
        compare=False,
        progress=False,
    )
    assert [one.family for one in distilled.teacher.teachers] == ["ease", "popularity"]
    assert distilled.undistilled is None
    assert distilled.report is None


def test_student_by_name_has_the_features_of_a_fitted_teacher(split):
    teacher = tm.train(split, "ease", progress=False)
    distilled = tm.distill(split, teacher, compare=False, progress=False)
    assert distilled.student.family == "two_tower"
    assert distilled.student.config.negatives == "full"
    assert distilled.student.spec is teacher.spec


@pytest.mark.parametrize(
    ("teacher", "strategy", "message"),
    [
        ([], "two_tower", "`teachers` is empty"),
        ("ease", "item_knn", "cannot learn from a teacher"),
        ("ease", tm.Strategy("two_tower"), "Use 'full' and 'softmax'"),
        ("nobody", "two_tower", "`family`='nobody'"),
        ("ease", "nobody", "`family`='nobody'"),
    ],
)
def test_invalid_teachers_and_students_are_refused(split, teacher, strategy, message):
    with pytest.raises(ValueError, match=message):
        tm.distill(split, teacher, strategy, progress=False)


def test_long_tail_is_all_items_beyond_80_percent_of_the_events():
    counts = np.array([0.0, 50.0, 30.0, 10.0, 10.0, 0.0])
    relevant = scipy.sparse.csr_matrix(np.array([[1, 0, 0, 1, 0, 0]]))
    slices = item_slices(counts, relevant, 2)
    np.testing.assert_array_equal(slices["long_tail"], [1, 0, 0, 1, 1, 1])
    np.testing.assert_array_equal(slices["cold_items"], [1, 0, 0, 0, 0, 1])
    assert list(item_slices(counts, scipy.sparse.csr_matrix([[0, 1, 0, 0, 0, 0]]), 2)) == [
        "all_items"
    ]


def test_items_without_events_are_cold():
    items = pa.table({"item_id": ["a", "b"], "genres": [["war"], ["war"]]})
    data = tm.Interactions.from_arrays(["u", "v"], ["a", "a"], items=items)
    model = tm.train(data, "popularity")
    relevant = scipy.sparse.csr_matrix(np.array([[0, 1]]))
    assert item_slices(model.item_counts.numpy(), relevant, 1)["cold_items"].sum() == 1


@pytest.fixture(scope="module")
def films():
    """Two kinds of users, each after films of one kind of title; the last of each kind is cold."""
    words = {"war": ["battle", "soldier", "army", "general"], "love": ["kiss", "heart", "bride"]}
    titles = {
        f"{kind}{place}": f"The {first} and the {second}"
        for kind, known in words.items()
        for place, (first, second) in enumerate(itertools.permutations(known, 2))
    }
    pairs = [
        (f"{kind} {user}", item)
        for kind in words
        for user in range(8)
        for place, item in enumerate(i for i in titles if i.startswith(kind))
        if place and (user + place) % 3
    ]
    users, items = zip(*pairs, strict=True)
    table = pa.table({"item_id": list(titles), "title": list(titles.values())})
    return tm.Interactions.from_arrays(users, items, time=np.arange(len(pairs)), items=table)


@pytest.mark.slow
def test_student_of_hashed_words_learns_from_a_bert(films):
    recipe = tm.TrainingConfig(epochs=30, batch_size=64, learning_rate=0.02)
    features = tm.FeatureSpec(item=(tm.HashedText("title", buckets=256),), history_length=8)
    config = tm.ContentTowerConfig(embedding_dim=8, hidden=(16,), dropout=0.0, teacher_weight=1.0)
    strategy = tm.Strategy("content_tower", config, recipe, features=features)
    spec = features.fit(films)
    teacher = tm.text_teacher(
        films,
        spec,
        strategy=tm.Strategy(
            "content_tower", tm.ContentTowerConfig(embedding_dim=8, hidden=(16,)), recipe
        ),
        progress=False,
    )
    student = tm.distill(films, teacher, strategy, compare=False, progress=False).student
    assert student.spec.item == features.item
    queries = student.spec.encode_queries(["?"], np.array([["war1", "war3"]], object))
    for model in (teacher, student):
        scores = dict(
            zip(model.spec.items.decode(np.arange(1, 19)), model.score(queries)[0], strict=True)
        )
        assert scores["war0"] > scores["love0"]  # which nobody has touched


@pytest.mark.slow
def test_strategy_with_a_bert_teacher_exports_nothing_of_it(films, tmp_path):
    features = tm.FeatureSpec(item=(tm.HashedText("title", buckets=256),), history_length=8)
    config = tm.ContentTowerConfig(embedding_dim=8, hidden=(16,), dropout=0.0)
    strategy = tm.Strategy("content_tower", config, QUICK, features=features, teacher="bert")
    assert tm.Strategy.from_dict(strategy.as_dict()) == strategy
    student = tm.train(films, strategy, progress=False)
    assert student.teacher_loss is not None
    # Nothing of the BERT goes with it.
    folder = tm.export(student, tmp_path / "student")
    names = [
        name.lower() for name, _ in tf.train.list_variables(str(folder / "variables/variables"))
    ]
    assert names
    assert not any("bert" in name or "projection" in name for name in names)
    assert sum(file.stat().st_size for file in folder.rglob("*") if file.is_file()) < 1_000_000
    proto = saved_model_pb2.SavedModel()
    proto.ParseFromString((folder / "saved_model.pb").read_bytes())
    library = proto.meta_graphs[0].graph_def.library.function
    ops = {node.op for function in library for node in function.node_def}
    ops -= {function.signature.name for function in library}
    assert all(op_def_registry.get(op) is not None and ">" not in op for op in ops)
    embed = tf.saved_model.load(str(folder)).signatures["embed_item"]
    wild = ["A title of no film", "", "x" * 10_000, "霸王别姬", "🎬👩‍👩‍👧"]
    given = embed(item_id=tf.fill([5], ""), title=tf.constant(wild))["embedding"].numpy()
    encoded = {"title": student.spec.encode_feature(features.item[0], wild, "item")}
    own = student.embed_item({"item_id": np.zeros(5, np.int32), **encoded})
    np.testing.assert_allclose(given, own, rtol=1e-5, atol=1e-6)
    assert np.abs(given[0] - given[1]).max() > 1e-3


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    return write_tiny_bert(tmp_path_factory.mktemp("tiny"))


@pytest.mark.slow
def test_tuning_changes_the_berts_vectors(films, tiny, tmp_path):
    spec = tm.FeatureSpec(item=(tm.HashedText("title", buckets=64),), history_length=8).fit(films)
    encoder = BertEncoder(tiny, max_tokens=16)
    strategy = tm.Strategy(
        "content_tower",
        tm.ContentTowerConfig(embedding_dim=4, hidden=(8,)),
        tm.TrainingConfig(epochs=1),
    )
    recipe = FineTuningConfig("lora_everywhere", epochs=9, max_steps=2, learning_rate=0.05)
    teachers = [
        tm.text_teacher(
            films,
            spec,
            encoder=encoder,
            strategy=strategy,
            tuning=tuning,
            folder=tmp_path / str(tuning is None),
            progress=False,
        )
        for tuning in (None, recipe)
    ]
    as_it_is, tuned = (model.item_table[TEXT_VECTOR].numpy()[1:] for model in teachers)
    title = films.items["title"].to_pylist()[0]
    row = teachers[0].spec.items.encode(films.items["item_id"])[0] - 1
    np.testing.assert_allclose(as_it_is[row], encoder.encode([title])[0], rtol=1e-5)
    assert np.abs(tuned - as_it_is).max() > 1e-3
    assert (tmp_path / "False" / "bert").is_dir()


@pytest.mark.slow
def test_text_vectors_are_stored_in_the_folder_and_used_again(films, tiny, tmp_path, monkeypatch):
    encoders = []

    def counting(cache):
        encoder = BertEncoder(tiny, max_tokens=16, cache=cache)
        encoders.append((encoder, read := []))
        vectors = encoder._vectors
        encoder._vectors = lambda texts: read.extend(texts) or vectors(texts)
        return encoder

    monkeypatch.setattr(distilling, "BertEncoder", counting)
    monkeypatch.setattr(
        distilling, "TEXT_TUNING", FineTuningConfig("lora", max_steps=1, batch_size=4)
    )
    features = tm.FeatureSpec(item=(tm.HashedText("title", buckets=64),), history_length=8)
    config = tm.ContentTowerConfig(embedding_dim=4, hidden=(8,))
    for teacher, name in (("bert", "one"), ("bert", "one"), ("tuned_bert", "two")):
        tm.distill(
            films,
            teacher,
            tm.Strategy("content_tower", config, tm.TrainingConfig(epochs=1), features),
            compare=False,
            folder=tmp_path / name,
            progress=False,
        )
    first, second, _ = (read for _, read in encoders)
    assert len(first) == len(set(films.items["title"].to_pylist()))
    assert second == []


def test_bert_teacher_without_texts_or_of_another_family_is_refused(films, split):
    plain = tm.FeatureSpec().fit(films)
    with pytest.raises(ValueError, match="There are no texts for a BERT to read"):
        tm.distill(films, "bert", features=plain, progress=False)
    with pytest.raises(ValueError, match="`strategy` has family 'ease'"):
        tm.text_teacher(films, plain, strategy=tm.Strategy("ease"))
