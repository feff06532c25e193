"""Keyed pseudonyms of ids, which cannot be reversed or guessed without the key.

Needs only the standard library, so that a command or service without pyarrow can make them.
"""

from __future__ import annotations

import hashlib
import hmac
import os

_SHORTEST_KEY = 16  # bytes


def pseudonym(user_id: str, key: bytes) -> str:
    """Returns the HMAC-SHA-256 of the UTF-8 id under `key`, 64 hexadecimal digits."""
    return hmac.new(key, user_id.encode(), hashlib.sha256).hexdigest()


def key_of(key_env: str) -> bytes:
    """Returns the key in an environment variable.

    Raises:
        ValueError: if the variable is not set or the key is too short.
    """
    key = os.environ.get(key_env, "").encode()
    if len(key) < _SHORTEST_KEY:
        state = f"holds only {len(key)} bytes" if key else "is not set"
        raise ValueError(
            f"${key_env} {state}, but pseudonyms need a secret key of {_SHORTEST_KEY} bytes or "
            f"more; create one with: openssl rand -hex 32"
        )
    return key
