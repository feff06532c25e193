"""Encodings are kept by checkpoint and text, and survive kills and damage."""

import numpy as np
import pytest

from tests.distillation.tiny_bert import write_tiny_bert
from tfrec_meta.content import bert
from tfrec_meta.content.bert import BertEncoder
from tfrec_meta.content.encodings import EncodingCache, key_of

TEXTS = ["war", "love of the bride", "", "battle 電影"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_tiny_bert(tmp_path_factory.mktemp("tiny"))


class Counted(BertEncoder):
    """Remembers which texts the model has read."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, max_tokens=kwargs.pop("max_tokens", 16), **kwargs)
        self.read = []

    def _vectors(self, texts):
        self.read += texts
        return super()._vectors(texts)


def test_each_text_is_encoded_once(folder, tmp_path):
    first = Counted(folder, cache=tmp_path)
    found = first.encode([*TEXTS, "war"])
    assert sorted(first.read) == sorted(TEXTS)
    np.testing.assert_array_equal(found[0], found[4])
    again = Counted(folder, cache=tmp_path)
    np.testing.assert_array_equal(again.encode(["heart", *TEXTS])[1:], found[:4])
    assert again.read == ["heart"]
    np.testing.assert_allclose(Counted(folder).encode(TEXTS), found[:4], atol=1e-5)


def test_other_weights_and_lengths_have_separate_vectors(folder, tmp_path):
    Counted(folder, cache=tmp_path / "cache").encode(TEXTS)
    other = write_tiny_bert(tmp_path / "other", seed=1)
    for encoder in (
        Counted(other, cache=tmp_path / "cache"),
        Counted(folder, cache=tmp_path / "cache", max_tokens=8),
    ):
        encoder.encode(TEXTS)
        assert sorted(encoder.read) == sorted(TEXTS)


def test_vectors_encoded_before_a_kill_are_stored(folder, tmp_path, monkeypatch):
    monkeypatch.setattr(bert, "_TEXTS_PER_FILE", 2)

    class Killed(Counted):
        def _vectors(self, texts):
            if len(self.read) >= 2:
                raise KeyboardInterrupt
            return super()._vectors(texts)

    killed = Killed(folder, cache=tmp_path)
    with pytest.raises(KeyboardInterrupt):
        killed.encode(TEXTS)
    after = Counted(folder, cache=tmp_path)
    after.encode(TEXTS)
    assert sorted(killed.read + after.read) == sorted(TEXTS)
    assert not list(tmp_path.rglob("*.part"))


@pytest.mark.parametrize("damage", ["cut", "other bytes", "no numbers", "other width"])
def test_damaged_file_is_renamed_and_its_texts_are_encoded_again(folder, tmp_path, damage):
    expected = Counted(folder, cache=tmp_path).encode(TEXTS)
    (path,) = tmp_path.rglob("*.npz")
    content = path.read_bytes()
    if damage == "cut":
        path.write_bytes(content[: len(content) // 2])
    elif damage == "other bytes":
        path.write_bytes(content.replace(expected[0].tobytes(), bytes(expected[0].nbytes)))
    else:
        keys = np.frombuffer(key_of("war"), np.uint8).reshape(1, 32)
        width = 3 if damage == "other width" else expected.shape[1]
        np.savez(path, texts=keys, vectors=np.full((1, width), np.nan, np.float32))
    again = Counted(folder, cache=tmp_path)
    with pytest.warns(UserWarning, match="is damaged"):
        found = again.encode(TEXTS)
    np.testing.assert_allclose(found, expected, atol=1e-5)
    assert sorted(again.read) == sorted(TEXTS)
    assert len(list(tmp_path.rglob("*.damaged"))) == 1
    assert len(list(tmp_path.rglob("*.npz"))) == 1


def test_files_contain_no_texts(tmp_path):
    path = EncodingCache(tmp_path, 2).add(["a secret title"], np.ones([1, 2], np.float32))
    assert b"secret" not in path.read_bytes()
    found = EncodingCache(tmp_path, 2).read()
    assert {key: v.tolist() for key, v in found.items()} == {key_of("a secret title"): [1.0, 1.0]}


def test_vectors_of_another_shape_are_refused(tmp_path):
    with pytest.raises(ValueError, match="not float32"):
        EncodingCache(tmp_path, 2).add(["war"], np.ones([1, 3], np.float32))
