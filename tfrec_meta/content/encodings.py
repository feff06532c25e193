"""Encodings of texts on the disk, so that a BERT reads each text once."""

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
    """Vectors by text, in one folder for each checkpoint and way of pooling.

    Each `keep` adds a file, whole or not at all: two processes may share a folder, and a kill costs
    what was not kept yet. A file that is damaged is set aside with a warning, and its texts are
    encoded again.

    Args:
        folder: of this checkpoint; made when something is kept.
        dimension: of the vectors.
    """

    def __init__(self, folder: Path | str, dimension: int):
        self.folder = Path(folder)
        self.dimension = dimension

    def read(self) -> dict[bytes, np.ndarray]:
        """All that is kept: float32 [dimension] by `key_of` a text."""
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
                    f"{path} is damaged ({e}); it is set aside as {aside.name}, and its texts are "
                    "encoded again.",
                    stacklevel=2,
                )
                continue
            known |= {key.tobytes(): v for key, v in zip(keys, vectors, strict=True)}
        return known

    def keep(self, texts: Sequence[str], vectors: np.ndarray) -> Path:
        """Adds a file.

        Args:
            texts: no two alike.
            vectors: float32 [N, dimension].

        Returns:
            Its path.
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
            raise ValueError("its keys are no SHA-256")
        if vectors.dtype != np.float32 or vectors.shape != shape:
            raise ValueError(f"vectors {vectors.dtype} {vectors.shape}, and not float32 {shape}")
        if not np.isfinite(vectors).all():
            raise ValueError("vectors that are no numbers")


def key_of(text: str) -> bytes:
    """SHA-256 of a text."""
    return hashlib.sha256(text.encode()).digest()
