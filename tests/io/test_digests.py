"""SHA-256 digests against hashlib."""

import hashlib

import numpy as np

from tfrec_meta.io.digests import digest_of, digest_of_file


def test_digest_of_a_file_is_its_sha_256(tmp_path):
    (tmp_path / "file").write_bytes(b"abc")
    assert digest_of_file(tmp_path / "file") == hashlib.sha256(b"abc").hexdigest()


def test_digest_of_arrays_covers_their_bytes_in_order():
    numbers = np.array([[1, 2], [3, 4]], np.int32)
    expected = hashlib.sha256(b"a" + numbers.tobytes()).hexdigest()
    assert digest_of(b"a", numbers) == expected
    assert digest_of(numbers, b"a") != expected


def test_digest_does_not_depend_on_memory_layout():
    numbers = np.arange(6).reshape(2, 3)
    assert digest_of(np.asfortranarray(numbers)) == digest_of(numbers)
