"""Encodes texts as vectors with a TF BERT."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
from tqdm import tqdm

from tfrec_meta.content.checkpoints import BertCheckpoint
from tfrec_meta.content.encodings import EncodingCache, key_of
from tfrec_meta.errors import ParameterError
from tfrec_meta.io.files import PathLike

POOLING = "mean_of_last_layer_l2"  # identifies the pooling in the cache
_TEXTS_PER_FILE = 1024  # of the cache


class BertEncoder:
    """Encodes a text as the mean of a BERT's last layer over its tokens, normalised to length 1.

    Args:
        checkpoint: a BertCheckpoint, or an argument of `BertCheckpoint.load`: a folder or a name of
            the Hugging Face hub with its commit. By default the packaged MiniLM.
        max_tokens: tokens that are read of a text; the rest is cut off.
        cache: a folder where vectors are stored by checkpoint and text. An interrupted encoding
            resumes from it. By default nothing is stored.

    Attributes:
        checkpoint: the checkpoint; `print(encoder.checkpoint)` shows its checksum.
        curve: the learning curve of the fine-tuning, one dict per epoch; empty without fine-tuning.

    Raises:
        FileNotFoundError, ImportError: see `BertCheckpoint.load`.
        ValueError: see `BertCheckpoint.load`; or if the checkpoint reads fewer tokens than
            `max_tokens`.

    Source: "Sentence-BERT: Sentence Embeddings using Siamese BERT-Networks" (EMNLP 2019).
    """

    def __init__(
        self,
        checkpoint: BertCheckpoint | Path | str | None = None,
        max_tokens: int = 128,
        cache: Path | str | None = None,
    ):
        if not isinstance(checkpoint, BertCheckpoint):
            checkpoint = BertCheckpoint.load(checkpoint)
        longest = int(checkpoint.config.get("max_position_embeddings", 512))
        if not 3 <= max_tokens <= longest:  # [CLS], a token and [SEP]
            raise ParameterError(
                f"`max_tokens`={max_tokens}; use 3 to {longest}, which {checkpoint.name} reads.",
                "max_tokens",
            )
        self.checkpoint = checkpoint
        self.max_tokens = max_tokens
        self.tokenizer: Any = checkpoint.tokenizer()
        self.cache_folder = cache
        self.curve: Sequence[Mapping[str, float]] = ()
        self.model: Any = checkpoint.model()
        self._encode = tf.function(partial(mean_of_tokens, self.model), reduce_retracing=True)

    @property
    def checksum(self) -> str:
        """SHA-256 of the weights, hexadecimal."""
        return self.checkpoint.checksum

    def save(self, folder: PathLike, *, overwrite: bool = False) -> None:
        """Writes the checkpoint with its present weights; see `BertCheckpoint.save`."""
        self.checkpoint.save(folder, overwrite=overwrite)

    @property
    def dimension(self) -> int:
        """Length of the vectors."""
        return int(self.model.config.hidden_size)

    @property
    def cache(self) -> EncodingCache | None:
        """The cache of this model's vectors; None without a cache folder."""
        if self.cache_folder is None:
            return None
        parts = (self.checkpoint.identity, POOLING, str(self.max_tokens))
        name = hashlib.sha256("\0".join(parts).encode()).hexdigest()
        return EncodingCache(Path(self.cache_folder) / name, self.dimension)

    def encode(
        self, texts: Sequence[str], batch_size: int = 64, progress: bool = False
    ) -> np.ndarray:
        """Encodes texts; the same text always has the same vector.

        Args:
            texts: any strings, including empty ones.
            batch_size: texts per batch. Texts of similar length are batched together, so that
                there is little padding.
            progress: whether to show a progress bar.

        Returns:
            float32 [N, dimension], vectors of length 1.

        Raises:
            TypeError: if a text is not a string.
        """
        check_strings(texts)
        cache = self.cache
        known = {} if cache is None else cache.read()
        keys = [key_of(text) for text in texts]
        missing = {text for text, key in zip(texts, keys, strict=True) if key not in known}
        to_encode = sorted(missing, key=lambda text: (len(text), text))
        shown = None if progress else True
        with tqdm(total=len(to_encode), desc="texts", unit="text", disable=shown) as bar:
            for start in range(0, len(to_encode), _TEXTS_PER_FILE):
                part = to_encode[start : start + _TEXTS_PER_FILE]
                found = np.zeros((len(part), self.dimension), np.float32)
                for first in range(0, len(part), batch_size):
                    batch = part[first : first + batch_size]
                    found[first : first + batch_size] = self._vectors(batch)
                    bar.update(len(batch))
                if cache is not None:
                    cache.add(part, found)
                known |= zip(map(key_of, part), found, strict=True)
        vectors = np.zeros((len(texts), self.dimension), np.float32)
        for row, key in enumerate(keys):
            vectors[row] = known[key]
        return vectors

    def tokens(self, texts: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
        """Tokenizes texts: ids and mask, int32 [N, longest text], padded."""
        tokens = self.tokenizer(
            list(texts),
            padding=True,
            truncation=True,
            max_length=self.max_tokens,
            return_tensors="np",
        )
        return tokens["input_ids"].astype(np.int32), tokens["attention_mask"].astype(np.int32)

    def _vectors(self, texts: Sequence[str]) -> np.ndarray:
        ids, mask = self.tokens(texts)
        vectors: np.ndarray = self._encode(tf.constant(ids), tf.constant(mask)).numpy()
        return vectors


def check_strings(texts: Sequence[str]) -> None:
    """Checks the types of texts.

    Raises:
        TypeError: if a text is not a string.
    """
    wrong = next((p for p, text in enumerate(texts) if not isinstance(text, str)), None)
    if wrong is not None:
        raise TypeError(f"Text {wrong} is {texts[wrong]!r}; use strings, '' for no text.")


def mean_of_tokens(
    model: Any, ids: tf.Tensor, mask: tf.Tensor, training: bool = False
) -> tf.Tensor:
    """Returns the mean of a BERT's last layer over each text's tokens.

    Args:
        model: a TFBertModel or TFDistilBertModel.
        ids: int32 [N, T].
        mask: int32 [N, T], 1 for tokens, 0 for padding.
        training: whether dropout is applied.

    Returns:
        float32 [N, hidden], normalised to length 1.
    """
    found = model(input_ids=ids, attention_mask=mask, training=training)
    return pooled(found.last_hidden_state, mask)


def pooled(hidden: tf.Tensor, mask: tf.Tensor) -> tf.Tensor:
    """Returns the mean over each text's tokens.

    Args:
        hidden: [N, T, hidden], the last layer of a BERT.
        mask: int32 [N, T], 1 for tokens, 0 for padding.

    Returns:
        float32 [N, hidden], normalised to length 1.
    """
    hidden = tf.cast(hidden, tf.float32)  # the model may compute in bfloat16
    counted = tf.cast(mask, tf.float32)[:, :, None]
    mean = tf.reduce_sum(hidden * counted, axis=1) / tf.reduce_sum(counted, axis=1)
    return tf.math.l2_normalize(mean, axis=1)
