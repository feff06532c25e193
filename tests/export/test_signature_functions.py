"""The graph of an exported model: its ops, its signatures and its answers."""

import numpy as np
import pytest
import tensorflow as tf
from tensorflow.core.protobuf import saved_model_pb2
from tensorflow.python.framework import kernels

import tfrec_meta as tm
from tfrec_meta.export import signatures as names
from tfrec_meta.models import Ranker, TwoTower

# String and lookup ops have no GPU kernel.
CPU_ONLY = {
    "HashTableV2", "InitializeTableFromTextFileV2", "LookupTableFindV2", "ParseExampleV2",
    "RaggedTensorToTensor", "StaticRegexFullMatch", "StaticRegexReplace", "StringJoin",
    "StringLower", "StringNGrams", "StringSplitV2", "StringStrip", "StringToHashBucketFast",
    "StringToHashBucketStrong", "Substr", "UnicodeDecode", "UnicodeTranscode",
}  # fmt: skip


def graph(folder):
    proto = saved_model_pb2.SavedModel()
    proto.ParseFromString((folder / "saved_model.pb").read_bytes())
    return proto.meta_graphs[0]


def nodes(folder):
    """All nodes except those of TensorFlow's own saver, which reads and writes files."""
    meta = graph(folder)
    yield from (node for node in meta.graph_def.node if node.op != "Const")
    for function in meta.graph_def.library.function:
        if not any(saver in function.signature.name for saver in ("traced_save", "traced_restore")):
            yield from function.node_def


def check_core_ops_without_a_device(folder):
    for node in nodes(folder):
        assert ">" not in node.op, f"{node.op} is not a core op"
        assert node.op not in ("PyFunc", "EagerPyFunc", "PyFuncStateless")
        assert node.device == "", node.op


def check_only_string_and_lookup_ops_lack_a_gpu_kernel(folder):
    functions = {f.signature.name for f in graph(folder).graph_def.library.function}
    used = {node.op for node in nodes(folder)} - functions
    without = set()
    for op in used:
        devices = {
            kernel.device_type for kernel in kernels.get_registered_kernels_for_op(op).kernel
        }
        if devices and not devices & {"GPU", "DEFAULT"}:
            without.add(op)
    assert without <= CPU_ONLY


def check_ops(folder):
    check_core_ops_without_a_device(folder)
    check_only_string_and_lookup_ops_lack_a_gpu_kernel(folder)


def test_uses_only_core_ops_without_a_device(folder_of, any_family):
    check_core_ops_without_a_device(folder_of(any_family))


def test_only_string_and_lookup_ops_lack_a_gpu_kernel(folder_of, any_family):
    check_only_string_and_lookup_ops_lack_a_gpu_kernel(folder_of(any_family))


def test_has_the_signatures_of_the_contract(folder_of, model_of, any_family):
    folder, model = folder_of(any_family), model_of(any_family)
    expected = {names.SERVING_DEFAULT, names.RECOMMEND, names.RANK, names.RANK_EXAMPLES}
    if model.has_embeddings:
        expected |= {names.EMBED_QUERY, names.EMBED_ITEM}
    if model.family in ("meta_learned", "meta_ranker"):
        expected.add(names.ADAPT)
    found = {name for name in graph(folder).signature_def if not name.startswith("__")}
    assert found == expected


def test_each_optional_input_has_a_default_of_one_row(folder):
    signature = graph(folder).signature_def[names.RECOMMEND]
    assert set(signature.inputs) - set(signature.defaults) == {names.USER_ID}
    shapes = {name: tf.make_ndarray(proto).shape for name, proto in signature.defaults.items()}
    assert shapes[names.HISTORY] == (1, 6)
    assert shapes[names.EXCLUDE] == (1, 3)
    assert shapes[names.K] == shapes["age"] == shapes["device"] == (1,)


@pytest.mark.slow
def test_a_multi_task_model_has_one_output_per_task(folder_of, model_of):
    model = model_of("multi_task")
    signatures = tf.saved_model.load(str(folder_of("multi_task"))).signatures
    items = ["i4", "i7", "never seen", "i1", ""]
    known = model.spec.items.encode(items[:4])
    query = model.spec.encode_queries(["u1"])
    expected = model.predict_events({n: np.repeat(v, 4, 0) for n, v in query.items()}, known)
    rank = signatures[names.RANK]
    served = rank(**blank(rank, user_id="u1", item_id=items, age=float("nan"), asked=-(2**63)))
    assert set(served) == {"score", "score_rating", "score_click"}
    for target in ("rating", "click"):
        found = served[names.SCORE_PREFIX + target]
        np.testing.assert_allclose(found[0, :4], expected[target], rtol=1e-5)
        assert found[0, 4] == -np.inf
    example = tf.train.Example()
    example.features.feature["user_id"].bytes_list.value.append(b"u1")
    example.features.feature["item_id"].bytes_list.value.append(b"i7")
    one = signatures[names.RANK_EXAMPLES](examples=tf.constant([example.SerializeToString()]))
    for name, value in served.items():
        np.testing.assert_allclose(one[name], value[:, 1], rtol=1e-5)


@pytest.mark.parametrize(
    "encoder",
    [
        "attention",
        pytest.param("gru", marks=pytest.mark.slow),
        pytest.param("convolution", marks=pytest.mark.slow),
        pytest.param("transformer", marks=pytest.mark.slow),
    ],
)
def test_each_history_encoder_is_exported_with_core_ops_and_answers_as_in_memory(
    shop, encoder, tmp_path
):
    config = tm.TwoTowerConfig(embedding_dim=8, encoder=encoder)
    model = TwoTower(config, tm.FeatureSpec(history_length=6).fit(shop))
    model.prepare(shop)
    model.refresh()
    config = tm.ExportConfig(history_width=6, recommend_history=True)
    folder = tm.export(model, tmp_path / "m", config)
    check_ops(folder)
    history = ["i3", "i1", "i2", "", "", ""]
    recommend = tf.saved_model.load(str(folder)).signatures[names.RECOMMEND]
    served = recommend(**blank(recommend, k=30, history=history))["score"][0]
    in_memory = model.score(model.spec.encode_queries([""], np.array([history], object)))[0]
    np.testing.assert_allclose(served, np.sort(in_memory)[::-1], rtol=1e-5, atol=1e-5)


@pytest.mark.slow
def test_an_unseen_title_is_embedded_near_a_similar_title(shop, tmp_path):
    hashed = tm.HashedText("title", width=4, bigrams=True, characters=20, buckets=512)
    strategy = tm.Strategy(
        "two_tower",
        tm.TwoTowerConfig(embedding_dim=8, item_initializer="words"),
        tm.TrainingConfig(epochs=2, batch_size=64),
        tm.FeatureSpec(item=(hashed,), history_length=4),
    )
    model = tm.train(shop, strategy, progress=False)
    folder = tm.export(model, tmp_path / "m", tm.ExportConfig(history_width=6))
    check_ops(folder)
    embed = tf.saved_model.load(str(folder)).signatures[names.EMBED_ITEM]
    known = shop.items["title"][0].as_py()

    def served(*titles):
        given = {"item_id": tf.fill([len(titles)], ""), "title": tf.constant(titles)}
        return embed(**given)["embedding"].numpy()

    wild = ["", "x" * 10_000, "霸王别姬", "🎬👩‍👩‍👧", f"{known}s!", known]
    vectors = served(*wild)
    assert np.isfinite(vectors).all()
    encoded = {"title": model.spec.encode_feature(hashed, wild, "item")}
    encoded["item_id"] = np.zeros(len(wild), np.int32)
    np.testing.assert_allclose(vectors, model.embed_item(encoded), rtol=1e-5, atol=1e-6)
    # Emoji, and "" (a null value), give the embedding of an item without a title.
    np.testing.assert_array_equal(vectors[3], vectors[0])
    for alone, together in zip(wild, vectors, strict=True):
        np.testing.assert_allclose(served(alone)[0], together, rtol=1e-5, atol=1e-6)
    # An unseen variant of a title is nearer to that title than all other titles are.
    *_, variant, itself = vectors[:, :-1]
    others = served(*{title for title in shop.items["title"].to_pylist() if title != known})[:, :-1]
    assert variant @ itself > np.max(others @ itself)


@pytest.mark.parametrize(
    "interaction",
    [
        "dcn",
        pytest.param("dlrm", marks=pytest.mark.slow),
        pytest.param("deepfm", marks=pytest.mark.slow),
    ],
)
def test_each_feature_cross_is_exported_with_core_ops_and_answers_as_in_memory(
    shop, interaction, tmp_path
):
    config = tm.RankerConfig(embedding_dim=4, interaction=interaction, target="click")
    model = Ranker(config, tm.FeatureSpec(history_length=6).fit(shop))
    model.prepare(shop)
    model.refresh()
    config = tm.ExportConfig(history_width=6, candidates_width=2)
    folder = tm.export(model, tmp_path / "m", config)
    check_ops(folder)
    rank = tf.saved_model.load(str(folder)).signatures[names.RANK]
    history = ["i3", "i1", "i2", "", "", ""]
    served = rank(**blank(rank, item_id=["i4", ""], history=history))
    query = model.spec.encode_queries([""], np.array([history], object))
    item = model.spec.items.encode(["i4"])
    chance = model.predict_events(query, item)["click"][0]
    np.testing.assert_allclose(served["score_click"], [[chance, -np.inf]], rtol=1e-5)
    np.testing.assert_allclose(
        served["score"], [[np.log(chance / (1 - chance)), -np.inf]], rtol=1e-4, atol=1e-5
    )


def test_recommends_items_of_the_history_with_recommend_history(model_of, tmp_path):
    config = tm.ExportConfig(history_width=6, recommend_history=True, k=30, max_k=30)
    folder = tm.export(model_of("popularity"), tmp_path / "m", config)
    recommend = tf.saved_model.load(str(folder)).signatures[names.RECOMMEND]
    answer = recommend(**blank(recommend, k=30, history=["i1", "i2", "", "", "", ""]))
    assert {b"i1", b"i2"} <= set(answer["item_id"].numpy()[0])


@pytest.mark.slow
def test_diversity_makes_the_items_of_an_answer_less_similar(model_of, tmp_path):
    model = model_of("two_tower")
    folder = tm.export(model, tmp_path / "m", tm.ExportConfig(history_width=6, diversity=True, k=6))
    recommend = tf.saved_model.load(str(folder)).signatures[names.RECOMMEND]

    def similarity(answer):
        rows = model.spec.items.encode([i.decode() for i in answer["item_id"].numpy()[0]])
        vectors = model.item_embeddings().numpy()[rows - 1]
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        return (vectors @ vectors.T).sum()

    plain = recommend(**blank(recommend, k=6))
    diverse = recommend(**blank(recommend, k=6, diversity=1.0))
    assert plain["item_id"][0, 0] == diverse["item_id"][0, 0]
    assert similarity(diverse) < similarity(plain)
    assert len(set(diverse["item_id"].numpy()[0])) == 6


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"filters": ("colour",)}, "category"),
        ({"filters": ("price",)}, "price"),
        ({"diversity": True}, "no embeddings"),
    ],
)
def test_refuses_options_that_the_model_cannot_offer(model_of, tmp_path, config, message):
    with pytest.raises(ValueError, match=message):
        tm.export(model_of("ease"), tmp_path / "m", tm.ExportConfig(**config))
    assert not any((tmp_path / "m").iterdir())


def blank(signature, **given):
    """One row of each input: the given values, and blanks for the rest."""
    inputs = {}
    for name, spec in signature.structured_input_signature[1].items():
        widths = {"history": 6, "exclude": 50}
        value = given.get(name, "" if spec.dtype == tf.string else 0)
        shape = [1, widths[name]] if name in widths else [1]
        inputs[name] = (
            tf.constant([value], spec.dtype)
            if isinstance(value, list)
            else tf.fill(shape, tf.constant(value, spec.dtype))
        )
    return inputs
