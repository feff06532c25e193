"""What an export leaves on disk, and that it needs nothing but core TensorFlow."""

import json

import numpy as np
import pyarrow.parquet as pq
import pytest
import tensorflow as tf
from tensorflow.core.protobuf import saved_model_pb2
from tensorflow.python.framework import kernels
from tensorflow_serving.apis import prediction_log_pb2

import tfrec_meta as tm
from tfrec_meta.export import saved_model
from tfrec_meta.export import signatures as names
from tfrec_meta.models import Ranker, TwoTower

# No GPU kernel, by nature: strings and lookups.
ON_CPU_BY_NATURE = {
    "HashTableV2", "InitializeTableFromTextFileV2", "LookupTableFindV2", "ParseExampleV2",
    "RaggedTensorToTensor", "StaticRegexFullMatch", "StaticRegexReplace", "StringJoin",
    "StringLower", "StringNGrams", "StringSplitV2", "StringStrip", "StringToHashBucketFast",
    "Substr", "UnicodeDecode", "UnicodeTranscode",
}  # fmt: skip


def graph(folder):
    proto = saved_model_pb2.SavedModel()
    proto.ParseFromString((folder / "saved_model.pb").read_bytes())
    return proto.meta_graphs[0]


def nodes(folder):
    """All but those of TensorFlow's own saver, which reads and writes files on the host."""
    meta = graph(folder)
    yield from (node for node in meta.graph_def.node if node.op != "Const")
    for function in meta.graph_def.library.function:
        if not any(saver in function.signature.name for saver in ("traced_save", "traced_restore")):
            yield from function.node_def


@pytest.fixture
def folder(exported, family):
    return exported[family]


def test_only_core_ops_and_no_device(folder):
    for node in nodes(folder):
        assert ">" not in node.op, f"{node.op} is no core op"
        assert node.op not in ("PyFunc", "EagerPyFunc", "PyFuncStateless")
        assert node.device == "", node.op


def test_ops_without_a_gpu_kernel_are_string_and_lookup_ops(folder):
    functions = {f.signature.name for f in graph(folder).graph_def.library.function}
    used = {node.op for node in nodes(folder)} - functions
    without = set()
    for op in used:
        devices = {
            kernel.device_type for kernel in kernels.get_registered_kernels_for_op(op).kernel
        }
        if devices and not devices & {"GPU", "DEFAULT"}:
            without.add(op)
    assert without <= ON_CPU_BY_NATURE


@pytest.mark.parametrize("encoder", ["attention", "gru", "convolution", "transformer"])
def test_history_encoders_are_served_by_the_same_ops_and_give_the_same_answer(
    shop, encoder, tmp_path
):
    config = tm.TwoTowerConfig(embedding_dim=8, encoder=encoder)
    model = TwoTower(config, tm.FeatureSpec(history_length=6).fit(shop))
    model.prepare(shop)
    model.refresh()
    config = tm.ExportConfig(history_width=6, recommend_history=True)
    folder = tm.export(model, tmp_path / "m", config)
    test_only_core_ops_and_no_device(folder)
    test_ops_without_a_gpu_kernel_are_string_and_lookup_ops(folder)
    history = ["i3", "i1", "i2", "", "", ""]
    recommend = tf.saved_model.load(str(folder)).signatures[names.RECOMMEND]
    served = recommend(**blank(recommend, k=30, history=history))["score"][0]
    asked = model.score(model.spec.encode_queries([""], np.array([history], object)))[0]
    np.testing.assert_allclose(served, np.sort(asked)[::-1], rtol=1e-5, atol=1e-5)


def test_a_title_that_was_never_seen_is_embedded_near_its_like(shop, tmp_path):
    hashed = tm.HashedText("title", width=4, bigrams=True, characters=20, buckets=512)
    strategy = tm.Strategy(
        "two_tower",
        tm.TwoTowerConfig(embedding_dim=8, item_initializer="words"),
        tm.TrainingConfig(epochs=2, batch_size=64),
        tm.FeatureSpec(item=(hashed,), history_length=4),
    )
    model = tm.train(shop, strategy, progress=False)
    folder = tm.export(model, tmp_path / "m", tm.ExportConfig(history_width=6))
    test_only_core_ops_and_no_device(folder)
    test_ops_without_a_gpu_kernel_are_string_and_lookup_ops(folder)
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
    # Emoji, and a null that a client sends as "", are what an item is of which nothing is known.
    np.testing.assert_array_equal(vectors[3], vectors[0])
    for alone, together in zip(wild, vectors, strict=True):
        np.testing.assert_allclose(served(alone)[0], together, rtol=1e-5, atol=1e-6)
    # A title is nearer to a variant of it, which was never seen, than to other titles.
    *_, variant, itself = vectors[:, :-1]
    others = served(*{title for title in shop.items["title"].to_pylist() if title != known})[:, :-1]
    assert variant @ itself > np.max(others @ itself)


@pytest.mark.parametrize("interaction", ["dcn", "dlrm", "deepfm"])
def test_interactions_are_served_by_the_same_ops_and_give_the_same_answer(
    shop, interaction, tmp_path
):
    config = tm.RankerConfig(embedding_dim=4, interaction=interaction, target="click")
    model = Ranker(config, tm.FeatureSpec(history_length=6).fit(shop))
    model.prepare(shop)
    model.refresh()
    config = tm.ExportConfig(history_width=6, candidates_width=2)
    folder = tm.export(model, tmp_path / "m", config)
    test_only_core_ops_and_no_device(folder)
    test_ops_without_a_gpu_kernel_are_string_and_lookup_ops(folder)
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


def test_a_multi_task_model_serves_an_output_a_task(exported, models):
    model = models["multi_task"]
    signatures = tf.saved_model.load(str(exported["multi_task"])).signatures
    items = ["i4", "i7", "never seen", "i1", ""]
    known = model.spec.items.encode(items[:4])
    query = model.spec.encode_queries(["u1"])
    expected = model.predict_events({n: np.repeat(v, 4, 0) for n, v in query.items()}, known)
    rank = signatures[names.RANK]
    served = rank(**blank(rank, user_id="u1", item_id=items, age=float("nan")))
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


def test_signatures_are_those_of_the_contract(folder, model):
    expected = {names.SERVING_DEFAULT, names.RECOMMEND, names.RANK, names.RANK_EXAMPLES}
    if model.has_embeddings:
        expected |= {names.EMBED_QUERY, names.EMBED_ITEM}
    if model.family in ("meta_learned", "meta_ranker"):
        expected.add(names.ADAPT)
    found = {name for name in graph(folder).signature_def if not name.startswith("__")}
    assert found == expected


def test_every_optional_input_has_a_default_of_one_row(folder):
    signature = graph(folder).signature_def[names.RECOMMEND]
    assert set(signature.inputs) - set(signature.defaults) == {names.USER_ID}
    shapes = {name: tf.make_ndarray(proto).shape for name, proto in signature.defaults.items()}
    assert shapes[names.HISTORY] == (1, 6)
    assert shapes[names.EXCLUDE] == (1, 3)
    assert shapes[names.K] == shapes["age"] == shapes["device"] == (1,)


def test_warm_up_requests_name_the_model_and_fit_its_signatures(folder, family):
    path = folder / names.EXTRA_ASSETS / names.WARM_UP_REQUESTS
    loaded = tf.saved_model.load(str(folder))
    asked = []
    for record in tf.data.TFRecordDataset(str(path)):
        request = prediction_log_pb2.PredictionLog.FromString(record.numpy()).predict_log.request
        assert request.model_spec.name == family
        asked.append(request.model_spec.signature_name)
        inputs = {name: tf.constant(tf.make_ndarray(t)) for name, t in request.inputs.items()}
        loaded.signatures[asked[-1]](**inputs)
    expected = {names.RECOMMEND, names.RANK, names.ADAPT} & set(loaded.signatures)
    assert set(asked) == expected


def test_the_catalogue_file_has_titles_in_the_order_of_the_scores(folder, model):
    table = pq.read_table(folder / names.EXTRA_ASSETS / names.CATALOGUE)
    rows = np.arange(1, model.spec.catalogue_size + 1)
    assert table["item_id"].to_pylist() == model.spec.items.decode(rows).tolist()
    own = model.items.to_pydict()
    titles = dict(zip(own["item_id"], own["title"], strict=True))
    assert table["title"].to_pylist() == [titles[item] for item in table["item_id"].to_pylist()]


def test_the_spec_beside_the_model_is_the_models(folder, model):
    assert tm.FeatureSpec.load(folder / names.EXTRA_ASSETS / names.FEATURE_SPEC) == model.spec


def test_the_model_card_says_what_it_is(folder, model):
    card = (folder / names.EXTRA_ASSETS / names.MODEL_CARD).read_text()
    assert f"Family: {model.family}" in card
    assert "600 interactions" in card


def test_versions_count_up_and_are_never_changed(models, tmp_path):
    model, base = models["popularity"], tmp_path / "m"
    assert tm.export(model, base).name == "1"
    assert tm.export(model, base, version=7).name == "7"
    (base / "not a version").mkdir()
    assert tm.export(model, base).name == "8"
    with pytest.raises(FileExistsError, match="never changed"):
        tm.export(model, base, version=7)
    with pytest.raises(ValueError, match="version"):
        tm.export(model, base, version=0)


def test_only_what_is_a_version_counts(tmp_path):
    for name in ("2", "²", "9.tmp", "0"):
        (tmp_path / name).mkdir()
    (tmp_path / "5").touch()
    assert saved_model.next_version(tmp_path) == 3


@pytest.mark.parametrize(
    "given, kept",
    [
        (["a", "b", "c", "d"], ["b", "c", "d"]),
        (["a", "", "b", "", "c", ""], ["b", "", "c"]),  # blanks inside take up places
        (["", "", "", "a"], ["", "", "a"]),
        (["a", "", "", "", ""], ["a", "", ""]),
        (["", ""], ["", "", ""]),
        ([], ["", "", ""]),
    ],
)
def test_the_latest_of_an_examples_history_are_kept(given, kept):
    tokens = tf.reshape(tf.constant(given, tf.string), [1, -1])
    fitted = saved_model._fit_width(tokens, 3, latest=True)
    assert [token.decode() for token in fitted.numpy()[0]] == kept


def test_a_failed_export_leaves_nothing(models, tmp_path, monkeypatch):
    def fail(*_):
        raise OSError("disk full")

    monkeypatch.setattr(saved_model, "_write_warm_up", fail)
    with pytest.raises(OSError, match="disk full"):
        tm.export(models["popularity"], tmp_path / "m")
    assert list((tmp_path / "m").iterdir()) == []


def test_a_model_without_an_items_table_exports_its_ids(tmp_path):
    data = tm.Interactions.from_arrays(["u", "v"], ["a", "b"])
    folder = tm.export(tm.train(data, "popularity"), tmp_path / "m")
    table = pq.read_table(folder / names.EXTRA_ASSETS / names.CATALOGUE)
    assert table.column_names == ["item_id"]


def test_history_may_be_recommended_again_if_the_export_says_so(models, tmp_path):
    config = tm.ExportConfig(history_width=6, recommend_history=True, k=30, max_k=30)
    folder = tm.export(models["popularity"], tmp_path / "m", config)
    recommend = tf.saved_model.load(str(folder)).signatures[names.RECOMMEND]
    kept = recommend(**blank(recommend, k=30, history=["i1", "i2", "", "", "", ""]))
    assert {b"i1", b"i2"} <= set(kept["item_id"].numpy()[0])


def test_diversity_spreads_the_answer(models, tmp_path):
    model = models["two_tower"]
    folder = tm.export(model, tmp_path / "m", tm.ExportConfig(history_width=6, diversity=True, k=6))
    recommend = tf.saved_model.load(str(folder)).signatures[names.RECOMMEND]

    def spread(answer):
        rows = model.spec.items.encode([i.decode() for i in answer["item_id"].numpy()[0]])
        vectors = model.item_embeddings().numpy()[rows - 1]
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        return (vectors @ vectors.T).sum()

    plain = recommend(**blank(recommend, k=6))
    diverse = recommend(**blank(recommend, k=6, diversity=1.0))
    assert plain["item_id"][0, 0] == diverse["item_id"][0, 0]
    assert spread(diverse) < spread(plain)
    assert len(set(diverse["item_id"].numpy()[0])) == 6


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"filters": ("colour",)}, "category"),
        ({"filters": ("price",)}, "price"),
        ({"diversity": True}, "no embeddings"),
    ],
)
def test_an_export_that_the_model_cannot_serve_is_refused(models, tmp_path, config, message):
    with pytest.raises(ValueError, match=message):
        tm.export(models["ease"], tmp_path / "m", tm.ExportConfig(**config))
    assert not any((tmp_path / "m").iterdir())


@pytest.mark.parametrize(
    "config", [{"k": 0}, {"max_k": 0}, {"exclude_width": 0}, {"k": 11, "max_k": 10}]
)
def test_bad_export_config_is_refused(config):
    with pytest.raises(ValueError, match=next(iter(config))):
        tm.ExportConfig(**config)


def blank(signature, **given):
    """One row of each input, blank but for those given."""
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


def test_a_strategy_round_trips_through_json():
    strategy = tm.Strategy(features=tm.FeatureSpec(item=(tm.Category("kind"),)))
    assert tm.Strategy.from_dict(json.loads(json.dumps(strategy.as_dict()))) == strategy
