"""Where checkpoints come from, and what is said of bad ones."""

import dataclasses
import hashlib
import json
import shutil

import numpy as np
import pytest
import tensorflow as tf

from tests.distillation.tiny_bert import WIDTH, write_tiny_bert
from tfrec_meta.content.bert import BertEncoder
from tfrec_meta.content.checkpoints import BertCheckpoint
from tfrec_meta.content.parameter_efficient import tuned_weights

COMMIT = "0123456789" * 4  # of the hub


@pytest.fixture(scope="module", params=["bert", "distilbert"])
def folder(request, tmp_path_factory):
    return write_tiny_bert(tmp_path_factory.mktemp("tiny") / request.param, request.param)


def test_folder_is_loaded_and_printed(folder):
    checkpoint = BertCheckpoint.load(folder)
    assert checkpoint.kind == folder.name
    weights = (folder / "model.safetensors").read_bytes()
    assert checkpoint.checksum == hashlib.sha256(weights).hexdigest()
    assert f"SHA-256 {checkpoint.checksum}" in str(checkpoint)
    model = checkpoint.model()
    assert (
        type(model).__name__
        == {"bert": "TFBertModel", "distilbert": "TFDistilBertModel"}[checkpoint.kind]
    )
    words = f"{checkpoint.kind}.embeddings.word_embeddings.weight"
    np.testing.assert_array_equal(
        model.get_input_embeddings().weight.numpy(), checkpoint.weights[words]
    )
    assert model(tf.constant([[2, 4, 3]])).last_hidden_state.shape == (1, 3, WIDTH)


@pytest.mark.slow
def test_texts_of_all_kinds_are_encoded(folder):
    encoder = BertEncoder(folder, max_tokens=16)
    wild = ["war and love", "", "x" * 10_000, "霸王别姬", "🎬👩‍👩‍👧"]
    vectors = encoder.encode(wild)
    assert vectors.shape == (5, WIDTH)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1.0, atol=1e-5)
    with pytest.raises(TypeError, match="Text 1 is None"):
        encoder.encode(["war", None])


def test_bfloat16_model_keeps_variables_in_float32(folder):
    checkpoint = BertCheckpoint.load(folder)
    ids = tf.constant([[2, 4, 5, 3]])
    plain = checkpoint.model()(ids).last_hidden_state
    model = checkpoint.model(mixed_precision=True)
    assert {variable.dtype for variable in model.trainable_variables} == {tf.float32}
    found = model(ids).last_hidden_state
    assert found.dtype == tf.bfloat16
    np.testing.assert_allclose(tf.cast(found, tf.float32), plain, atol=0.15)
    from tfrec_meta.keras import tf_keras

    assert tf_keras.mixed_precision.global_policy().name == "float32"


def test_name_of_the_hub_is_downloaded(folder, monkeypatch):
    import huggingface_hub

    asked = []

    def download(name, file, revision):
        asked.append((name, file, revision))
        return str(folder / file)

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", download)
    assert BertCheckpoint.load(f"some-body/tiny@{COMMIT}").kind == folder.name
    files = ("config.json", "model.safetensors", "tokenizer.json")
    assert asked == [("some-body/tiny", file, COMMIT) for file in files]


@pytest.mark.parametrize("revision", ["", "@", "@main", "@v1.0", "@" + "g" * 40, "@" + "a" * 39])
def test_name_of_the_hub_without_a_commit_is_refused(monkeypatch, revision):
    import huggingface_hub

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", None)
    with pytest.raises(FileNotFoundError, match=r"needs a commit.*some-body/tiny@COMMIT"):
        BertCheckpoint.load("some-body/tiny" + revision)


def test_name_of_the_hub_is_refused_without_a_network(monkeypatch, tmp_path):
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(
        FileNotFoundError, match=r"'some-body/tiny@\w+' is not a folder, and the download"
    ):
        BertCheckpoint.load(f"some-body/tiny@{COMMIT}")


@pytest.mark.parametrize("name", ["/no/such/folder", "../elsewhere", "a/b/c"])
def test_neither_folder_nor_name_is_refused(name):
    with pytest.raises(FileNotFoundError, match="the folder does not exist"):
        BertCheckpoint.load(name)


def test_error_names_missing_files(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"lacks config.json and model.safetensors"):
        BertCheckpoint.load(tmp_path)


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("config.json", "{", "is damaged"),
        ("config.json", "[]", "`model_type`=None"),
        ("model.safetensors", "no weights", "is damaged"),
        ("tokenizer.json", "no JSON", "is damaged"),
        ("tokenizer.json", "{}", "is not a tokenizer"),
    ],
)
def test_damaged_files_are_refused(folder, tmp_path, file, content, message):
    copy = tmp_path / "copy"
    shutil.copytree(folder, copy)
    (copy / file).write_text(content)
    with pytest.raises(ValueError, match=message):
        BertEncoder(copy, max_tokens=16)


def test_weights_of_another_config_are_refused(folder, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(folder, copy)
    text = (copy / "config.json").read_text()
    (copy / "config.json").write_text(text.replace(f": {WIDTH},", ": 64,"))
    with pytest.raises(ValueError, match=f"{copy} is damaged: its weights do not match"):
        BertCheckpoint.load(copy).model()


@pytest.mark.parametrize("max_tokens", [2, 65])
def test_more_tokens_than_the_checkpoint_reads_are_refused(folder, max_tokens):
    with pytest.raises(ValueError, match="use 3 to 64"):
        BertEncoder(folder, max_tokens=max_tokens)


def test_identity_depends_on_weights_config_and_tokenizer(folder, tmp_path):
    own = BertCheckpoint.load(folder)
    copy = tmp_path / "copy"
    shutil.copytree(folder, copy)
    assert BertCheckpoint.load(copy).identity == own.identity
    text = (copy / "tokenizer.json").read_text()
    (copy / "tokenizer.json").write_text(text.replace('"lowercase": true', '"lowercase": false'))
    other = BertCheckpoint.load(copy)
    assert other.checksum == own.checksum
    assert other.identity != own.identity


@pytest.mark.parametrize("method", ["all", "lora", "lora_everywhere", "adapters", "prefix"])
def test_tuned_model_is_saved_completely(folder, tmp_path, method):
    checkpoint = BertCheckpoint.load(folder)
    model = checkpoint.model()
    weights = tuned_weights(model, method, size=3)
    draw = np.random.default_rng(0)
    for weight in weights:
        weight.assign_add(draw.normal(scale=0.1, size=weight.shape))
    ids = tf.constant([[2, 4, 5, 3]])
    learned = model(ids).last_hidden_state
    tuned = checkpoint.tuned(model, weights, method, 3)
    tuned.save(tmp_path / "tuned")
    again = BertCheckpoint.load(tmp_path / "tuned")
    assert again.checksum == tuned.checksum != checkpoint.checksum
    assert again.identity == tuned.identity
    np.testing.assert_allclose(again.model()(ids).last_hidden_state, learned, atol=1e-5)
    assert str(tuned).startswith(f"{folder}, fine-tuned ({method}) ({folder.name}, ")
    with pytest.raises(FileExistsError, match="overwrite=True"):
        tuned.save(tmp_path / "tuned")
    tuned.save(tmp_path / "tuned", overwrite=True)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["tuned"]


def test_names_of_weights_are_those_of_the_hub(folder):
    checkpoint = BertCheckpoint.load(folder)
    model = checkpoint.model()
    found = checkpoint.tuned(model, tuned_weights(model, "all"), "all", 1)
    assert found.weights.keys() == {k.removeprefix(f"{folder.name}.") for k in checkpoint.weights}
    for name, value in found.weights.items():
        np.testing.assert_array_equal(value, checkpoint.weights[f"{folder.name}.{name}"], name)


def test_model_without_pooler_is_loaded_without_warnings(folder, capfd):
    import transformers

    before = transformers.logging.get_verbosity()
    BertCheckpoint.load(folder).model()
    assert "pooler" not in capfd.readouterr().err
    assert transformers.logging.get_verbosity() == before


def test_weight_names_of_old_checkpoints_are_supported(folder):
    new = BertCheckpoint.load(folder)
    names = {"LayerNorm.weight": "LayerNorm.gamma", "LayerNorm.bias": "LayerNorm.beta"}

    def old_name(name):
        return next((name.replace(n, o) for n, o in names.items() if name.endswith(n)), name)

    old = dataclasses.replace(new, weights={old_name(k): v for k, v in new.weights.items()})
    assert old.weights.keys() != new.weights.keys()
    ids = tf.constant([[2, 4, 5, 3]])
    models = [one.model() for one in (old, new)]
    said, expected = (model(ids).last_hidden_state for model in models)
    np.testing.assert_array_equal(said, expected)
    tuned = old.tuned(models[0], tuned_weights(models[0], "all"), "all", 1)
    assert not any("gamma" in name or "beta" in name for name in tuned.weights)


@pytest.mark.parametrize("added", [{}, {"method": "adapters", "size": 2}, {"method": "x"}, [1]])
def test_missing_adapter_weights_are_refused(folder, tmp_path, added):
    copy = tmp_path / "copy"
    shutil.copytree(folder, copy)
    config = json.loads((copy / "config.json").read_text())
    (copy / "config.json").write_text(json.dumps(config | {"tfrec_meta": added}))
    with pytest.raises(ValueError, match="is damaged: its adapters or prefix"):
        BertCheckpoint.load(copy).model()
