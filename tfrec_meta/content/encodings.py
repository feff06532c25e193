"""A cache of text vectors on disk, so that a BERT encodes each text once."""

from __future__ import annotations

import hashlib
import os
import warnings
import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from tfrec_meta.io.files import atomic_file


class EncodingCache:
    """Vectors by text, in one folder per checkpoint and pooling.

    Each `add` writes one file, whole or not at all, so several processes can share a folder, and a
    kill loses only vectors that were not added yet. A damaged file is renamed with a warning, and
    its texts are encoded again.

    Args:
        folder: of this checkpoint; created by the first `add`.
        dimension: length of the vectors.
    """

    def __init__(self, folder: Path | str, dimension: int):
        self.folder = Path(folder)
        self.dimension = dimension

    def read(self) -> dict[bytes, np.ndarray]:
        """Returns all vectors, float32 [dimension], by `key_of` of the text."""
        known: dict[bytes, np.ndarray] = {}
        for path in sorted(self.folder.glob("*.npz")):
            try:
                with np.load(path, allow_pickle=False) as arrays:
                    keys, vectors = arrays["texts"], arrays["vectors"]
                self._check(keys, vectors)
            except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error) as e:
                aside = path.with_suffix(".damaged")
                os.replace(path, aside)
                warnings.warn(
                    f"{path} is damaged ({e}). It is renamed to {aside.name}, and its texts are "
                    "encoded again.",
                    stacklevel=2,
                )
                continue
            known |= {key.tobytes(): v for key, v in zip(keys, vectors, strict=True)}
        return known

    def add(self, texts: Sequence[str], vectors: np.ndarray) -> Path:
        """Writes a file of vectors.

        Args:
            texts: distinct texts.
            vectors: float32 [N, dimension].

        Returns:
            The path of the file.
        """
        keys = np.frombuffer(b"".join(map(key_of, texts)), np.uint8).reshape(-1, 32)
        self._check(keys, vectors)
        path = self.folder / f"{hashlib.sha256(keys.tobytes()).hexdigest()}.npz"
        with atomic_file(path) as work, open(work, "wb") as file:
            np.savez(file, texts=keys, vectors=vectors)
        return path

    def _check(self, keys: np.ndarray, vectors: np.ndarray) -> None:
        shape = (len(keys), self.dimension)
        if keys.dtype != np.uint8 or keys.shape != (len(keys), 32):
            raise ValueError("its keys are not SHA-256 digests")
        if vectors.dtype != np.float32 or vectors.shape != shape:
            raise ValueError(
                f"its vectors are {vectors.dtype} {vectors.shape}, not float32 {shape}"
            )
        if not np.isfinite(vectors).all():
            raise ValueError("its vectors are not finite")


def key_of(text: str) -> bytes:
    """Returns the SHA-256 digest of a text."""
    return hashlib.sha256(text.encode()).digest()
