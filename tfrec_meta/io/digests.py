"""SHA-256 digests of files and of arrays, in hexadecimal."""

from __future__ import annotations

import hashlib

import numpy as np

from tfrec_meta.io.files import PathLike


def digest_of_file(path: PathLike) -> str:
    """Returns the digest of a file's content."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def digest_of(*parts: np.ndarray | bytes) -> str:
    """Returns the digest of the bytes of arrays and texts, in their order.

    Shapes and dtypes do not count, and neither do the borders between the parts.
    """
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part if isinstance(part, bytes) else np.ascontiguousarray(part).tobytes())
    return digest.hexdigest()
