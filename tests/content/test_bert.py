"""BERT checkpoints: what they make of texts, and what is said of bad ones."""

import json
import shutil

import numpy as np
import pytest

from tfrec_meta.content.bert import BertEncoder
from tfrec_meta.content.checkpoints import packaged_checkpoint


@pytest.fixture(scope="module")
def encoder():
    return BertEncoder()


@pytest.mark.slow
def test_similar_texts_have_similar_vectors(encoder):
    film, other, car = encoder.encode(
        ["A film about a war in space", "A movie of battles among the stars", "How to repair a car"]
    )
    assert film @ other > 0.4
    assert film @ other > film @ car + 0.2
    np.testing.assert_allclose(np.linalg.norm([film, other, car], axis=1), 1.0, atol=1e-5)


@pytest.mark.slow
def test_vector_depends_on_its_text_only(encoder):
    texts = ["short", "a much longer text than the other one, with many words in it", "", "電影 🎬"]
    together = encoder.encode(texts)
    alone = np.concatenate([encoder.encode([text]) for text in texts])
    np.testing.assert_allclose(together, alone, atol=1e-5)
    assert np.isfinite(together).all()
    assert together.shape == (4, encoder.dimension) == (4, 384)
    assert together.dtype == np.float32


def test_no_texts_give_no_rows(encoder):
    assert encoder.encode([]).shape == (0, 384)


@pytest.mark.slow
def test_long_text_is_cut_off(encoder):
    words = " ".join(["word"] * 10_000)
    np.testing.assert_allclose(
        encoder.encode([words]), encoder.encode([words + " and another end"]), atol=1e-5
    )


def test_checksum_is_that_of_the_weights(encoder):
    assert len(encoder.checksum) == 64
    assert int(encoder.checksum, 16) > 0


def test_error_for_an_incomplete_checkpoint_names_the_missing_files(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"lacks config.json and model.safetensors"):
        BertEncoder(tmp_path)


@pytest.fixture
def copied(tmp_path):
    for name in ("config.json", "tokenizer.json"):
        shutil.copy(packaged_checkpoint() / name, tmp_path)
    return tmp_path


def test_damaged_checkpoint_is_refused(copied):
    (copied / "model.safetensors").write_bytes(b"not weights")
    with pytest.raises(ValueError, match=f"{copied} is damaged"):
        BertEncoder(copied)


def test_missing_weights_are_refused(copied):
    import safetensors.numpy

    state = safetensors.numpy.load_file(packaged_checkpoint() / "model.safetensors")
    few = {key: value for key, value in state.items() if "layer.3" not in key}
    safetensors.numpy.save_file(few, copied / "model.safetensors")
    with pytest.raises(ValueError, match=r"is damaged: \d+ weights"):
        BertEncoder(copied)


def test_other_model_types_are_refused(copied):
    config = json.loads((copied / "config.json").read_text())
    (copied / "config.json").write_text(json.dumps({**config, "model_type": "gpt2"}))
    shutil.copy(packaged_checkpoint() / "model.safetensors", copied)
    with pytest.raises(ValueError, match="`model_type`='gpt2'"):
        BertEncoder(copied)
