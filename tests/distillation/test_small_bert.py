"""A BERT of fewer layers that learns what a larger one makes of texts."""

import dataclasses
import itertools

import numpy as np
import pytest
import tensorflow as tf

from tests.distillation.tiny_bert import HIDDEN, LAYERS, WIDTH, WORDS, write_tiny_bert
from tfrec_meta.content.parameter_efficient import tuned_weights
from tfrec_meta.distillation import (
    BertEncoder,
    FineTuningConfig,
    SmallBertConfig,
    small_bert,
)
from tfrec_meta.distillation.small_bert import _outputs
from tfrec_meta.training.checkpoint_folder import CheckpointFolder

RECIPE = FineTuningConfig(
    epochs=6, batch_size=16, learning_rate=3e-3, dropout=0.0, seed=1, checkpoint_every=2
)
CONFIG = SmallBertConfig(layers=1, fine_tuning=RECIPE)
PAIRS = [f"{first} {second}" for first, second in itertools.permutations(WORDS, 2)]
TEXTS, NEW = [*PAIRS[::2], "", "x" * 10_000, "霸王别姬", "🎬"], PAIRS[1::2]


@pytest.fixture(scope="module", params=["bert", "distilbert"])
def teacher(request, tmp_path_factory):
    return BertEncoder(write_tiny_bert(tmp_path_factory.mktemp("tiny"), request.param), 16)


def likeness(encoder, teacher):
    return float(np.mean(np.sum(encoder.encode(NEW) * teacher.encode(NEW), axis=1)))


def test_layers_are_copied(teacher):
    whole = teacher.checkpoint
    assert whole.layers == LAYERS
    kept = whole.with_layers([1])
    assert kept.layers == 1
    at = {"bert": "bert.encoder.layer", "distilbert": "distilbert.transformer.layer"}[whole.kind]
    of_layer = [name for name in kept.weights if name.startswith(at)]
    assert len(of_layer) == 16
    for name in kept.weights:
        old = name.replace(f"{at}.0.", f"{at}.1.")
        np.testing.assert_array_equal(kept.weights[name], whole.weights[old], name)
    parameters = 4 * (WIDTH * WIDTH + WIDTH) + 2 * WIDTH * HIDDEN + HIDDEN + WIDTH + 4 * WIDTH
    sizes = [sum(v.size for v in one.weights.values()) for one in (whole, kept)]
    assert sizes[0] - sizes[1] == parameters
    assert kept.checksum != whole.checksum
    again = whole.with_layers([0, 1])  # all layers: the same model
    ids = tf.constant([[2, 4, 5, 3]])
    np.testing.assert_array_equal(
        again.model()(ids).last_hidden_state, teacher.model(ids).last_hidden_state
    )


@pytest.mark.parametrize("kept", [[], [2], [-1]])
def test_missing_layers_are_refused(teacher, kept):
    with pytest.raises(ValueError, match="has layers 0 to 1"):
        teacher.checkpoint.with_layers(kept)


def test_values_are_those_of_the_last_layer_by_head(teacher):
    ids, mask = tf.constant([[2, 4, 5, 3], [2, 6, 3, 0]]), tf.constant([[1, 1, 1, 1], [1, 1, 1, 0]])
    vectors, values = _outputs(teacher.model, ids, mask)
    one_less = teacher.checkpoint.with_layers([0]).model()
    before = one_less(input_ids=ids, attention_mask=mask).last_hidden_state
    state = {
        k.removeprefix(f"{teacher.checkpoint.kind}."): v
        for k, v in teacher.checkpoint.weights.items()
    }
    at = {
        "bert": "encoder.layer.1.attention.self.value",
        "distilbert": "transformer.layer.1.attention.v_lin",
    }[teacher.checkpoint.kind]
    expected = before.numpy() @ state[f"{at}.weight"].T + state[f"{at}.bias"]
    assert values.shape == (2, 4, 4, WIDTH // 4)
    for head in range(4):
        part = expected[:, :, head * WIDTH // 4 : (head + 1) * WIDTH // 4]
        np.testing.assert_allclose(values[:, head], part, atol=1e-5)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1.0, atol=1e-5)


@pytest.mark.slow
def test_small_bert_approximates_its_teacher_on_new_texts(teacher):
    start = BertEncoder(teacher.checkpoint.with_layers([0]), 16)
    found = small_bert(teacher, TEXTS, CONFIG, progress=False)
    assert found.checkpoint.layers == 1
    assert found.curve[-1]["loss"] < 0.5 * found.curve[0]["loss"]
    assert 1.0 - likeness(found, teacher) < 0.6 * (1.0 - likeness(start, teacher))


@pytest.mark.slow
def test_relations_alone_are_learned_in_bfloat16(teacher):
    recipe = dataclasses.replace(RECIPE, mixed_precision=True)
    config = dataclasses.replace(CONFIG, vectors=0.0, fine_tuning=recipe)
    found = small_bert(teacher, TEXTS, config, progress=False)
    assert found.curve[-1]["loss"] < 0.7 * found.curve[0]["loss"]
    assert found.model.compute_dtype == "float32"


@pytest.mark.slow
def test_run_resumes_after_a_kill_and_is_saved(teacher, tmp_path, monkeypatch):
    recipe = dataclasses.replace(RECIPE, epochs=1, dropout=0.1, accumulation=2, method="lora")
    config = dataclasses.replace(CONFIG, fine_tuning=recipe)
    whole = small_bert(teacher, TEXTS, config, progress=False)
    write = CheckpointFolder.write

    def write_and_die(checkpoints, number):
        write(checkpoints, number)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(CheckpointFolder, "write", write_and_die)
        with pytest.raises(KeyboardInterrupt):
            small_bert(teacher, TEXTS, config, tmp_path / "run", progress=False)
    found = small_bert(teacher, TEXTS, config, tmp_path / "run", progress=False)
    assert found.checksum == whole.checksum
    other = dataclasses.replace(config, relations=2.0)
    with pytest.raises(ValueError, match=r"`small_relations` was 1\.0 and is 2\.0"):
        small_bert(teacher, TEXTS, other, tmp_path / "run", progress=False)
    found.save(tmp_path / "small")
    again = BertEncoder(tmp_path / "small", 16)
    assert again.checksum == found.checksum
    np.testing.assert_array_equal(again.encode(NEW[:3]), found.encode(NEW[:3]))


def test_invalid_texts_and_teachers_are_refused(teacher):
    with pytest.raises(ValueError, match="`texts` is empty"):
        small_bert(teacher, [], CONFIG)
    with pytest.raises(TypeError, match="Text 1 is None"):
        small_bert(teacher, ["war", None], CONFIG)
    with pytest.raises(ValueError, match=r"`layers`=3; use at most 2"):
        small_bert(teacher, ["war"], SmallBertConfig(layers=3))
    checkpoint = teacher.checkpoint
    model = checkpoint.model()
    adapted = checkpoint.tuned(model, tuned_weights(model, "adapters", 2), "adapters", 2)
    with pytest.raises(ValueError, match="has adapters or a prefix"):
        small_bert(BertEncoder(adapted, 16), ["war"], CONFIG)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"layers": 0}, "`layers`=0"),
        ({"vectors": -1.0}, "`vectors`=-1.0"),
        ({"relations": float("nan")}, "`relations`=nan"),
        ({"vectors": 0.0, "relations": 0.0}, "are both 0"),
        ({"fine_tuning": FineTuningConfig(method="prefix")}, "`method`='prefix'"),
    ],
)
def test_invalid_configs_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        SmallBertConfig(**changes)
