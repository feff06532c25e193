"""Embeddings of texts by a TF BERT."""

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
from tfrec_meta.io.files import PathLike

POOLING = "mean of the last layer, of length 1"
_KEPT_AT_ONCE = 1024  # texts, of which the cache makes a file


class BertEncoder:
    """Texts to vectors: the mean over a text's tokens of a BERT's last layer, of length 1.

    Args:
        checkpoint: what `BertCheckpoint.load` gave or takes: a folder, or a name of the hub; the
            packaged MiniLM by default.
        max_tokens: of a text; the rest is cut off.
        cache: a folder, in which encodings are kept by checkpoint and text; an encoding that was
            killed goes on from there. Without one, nothing is kept.

    Attributes:
        checkpoint: what it was made of; its checksum is shown by `print(encoder.checkpoint)`.
        curve: one dict an epoch of its fine-tuning; empty for a checkpoint as it is.

    Raises:
        FileNotFoundError, ImportError: see `BertCheckpoint.load`.
        ValueError: likewise, or if the checkpoint reads fewer than `max_tokens`.

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
            raise ValueError(f"`max_tokens`={max_tokens}; {checkpoint.name} reads 3 to {longest}.")
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
        """Writes its checkpoint, as it is or as fine-tuning left it; see `BertCheckpoint.save`."""
        self.checkpoint.save(folder, overwrite=overwrite)

    @property
    def dimension(self) -> int:
        """Of the vectors."""
        return int(self.model.config.hidden_size)

    @property
    def cache(self) -> EncodingCache | None:
        """Where the encodings of this model are kept, if anywhere."""
        if self.cache_folder is None:
            return None
        parts = (self.checkpoint.identity, POOLING, str(self.max_tokens))
        name = hashlib.sha256("\0".join(parts).encode()).hexdigest()
        return EncodingCache(Path(self.cache_folder) / name, self.dimension)

    def encode(
        self, texts: Sequence[str], batch_size: int = 64, progress: bool = False
    ) -> np.ndarray:
        """float32 [N, dimension], of length 1; the same text has the same vector.

        Args:
            texts: any strings; an empty one is what the model makes of no words.
            batch_size: texts at once; near ones in length, so that little is padded.
            progress: whether to show a bar.

        Raises:
            TypeError: for what is no string, as None.
        """
        check_strings(texts)
        cache = self.cache
        known = {} if cache is None else cache.read()
        keys = [key_of(text) for text in texts]
        missing = {text for text, key in zip(texts, keys, strict=True) if key not in known}
        wanted = sorted(missing, key=lambda text: (len(text), text))
        shown = None if progress else True
        with tqdm(total=len(wanted), desc="texts", unit="text", disable=shown) as bar:
            for start in range(0, len(wanted), _KEPT_AT_ONCE):
                part = wanted[start : start + _KEPT_AT_ONCE]
                found = np.zeros((len(part), self.dimension), np.float32)
                for first in range(0, len(part), batch_size):
                    batch = part[first : first + batch_size]
                    found[first : first + batch_size] = self._vectors(batch)
                    bar.update(len(batch))
                if cache is not None:
                    cache.keep(part, found)
                known |= zip(map(key_of, part), found, strict=True)
        vectors = np.zeros((len(texts), self.dimension), np.float32)
        for row, key in enumerate(keys):
            vectors[row] = known[key]
        return vectors

    def tokens(self, texts: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
        """What the model reads of texts: ids and a mask, int32 [N, longest of them], padded."""
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
    """Raises:
    TypeError: for what is no string, as None.
    """
    strange = next((p for p, text in enumerate(texts) if not isinstance(text, str)), None)
    if strange is not None:
        raise TypeError(f"Text {strange} is {texts[strange]!r}; give strings, '' for none.")


def mean_of_tokens(
    model: Any, ids: tf.Tensor, mask: tf.Tensor, training: bool = False
) -> tf.Tensor:
    """float32 [N, hidden], of length 1: the mean over a text's tokens of a BERT's last layer.

    Args:
        model: a TFBertModel or TFDistilBertModel.
        ids: int32 [N, T].
        mask: int32 [N, T], 1 for tokens, 0 for padding.
        training: whether there is dropout.
    """
    found = model(input_ids=ids, attention_mask=mask, training=training)
    return pooled(found.last_hidden_state, mask)


def pooled(hidden: tf.Tensor, mask: tf.Tensor) -> tf.Tensor:
    """float32 [N, hidden], of length 1: the mean over a text's tokens.

    Args:
        hidden: [N, T, hidden], what a BERT makes of tokens.
        mask: int32 [N, T], 1 for tokens, 0 for padding.
    """
    hidden = tf.cast(hidden, tf.float32)  # of a model in bfloat16, too
    counted = tf.cast(mask, tf.float32)[:, :, None]
    mean = tf.reduce_sum(hidden * counted, axis=1) / tf.reduce_sum(counted, axis=1)
    return tf.math.l2_normalize(mean, axis=1)
