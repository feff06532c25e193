"""The one place that chooses Keras 2 (tf_keras), which TFRS and TensorFlow's BERT need.

Import it before TensorFlow, KerasTuner or TFX, in every entry point, worker and Beam process:

    from tfrec_meta.keras import tf_keras
    import tensorflow as tf

From then on `tf.keras` is tf_keras, and so is the Keras of KerasTuner, whoever imports it (TFX
does so by itself). A TensorFlow that was imported earlier is turned to Keras 2 as long as nothing
has used its `tf.keras`. Importing this module loads nothing; its `tf_keras` loads TensorFlow.
"""

import contextlib
import importlib
import importlib.abc
import importlib.util
import os
import sys
import tempfile
from collections.abc import Iterator, Sequence
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

__all__ = ["use_keras2", "tf_keras"]  # noqa: F822  (tf_keras is lazy)

_SWITCH = "TF_USE_LEGACY_KERAS"
_YES = ("1", "True", "true")  # what TensorFlow takes for yes
_WAY_OUT = "Import `tfrec_meta.keras` first, or set TF_USE_LEGACY_KERAS=1 before Python starts."


def use_keras2() -> None:
    """Makes this process use Keras 2; importing the module has done so already.

    Raises:
        RuntimeError: TF_USE_LEGACY_KERAS says no, or TensorFlow or KerasTuner is bound to Keras 3.
    """
    chosen = os.environ.get(_SWITCH, "1")
    if chosen not in _YES:
        raise RuntimeError(
            f"{_SWITCH}={chosen!r}, but TensorFlow Recommenders and BERT need Keras 2; "
            "unset it or set it to 1."
        )
    _turn_tensorflow()
    _check_keras_tuner()
    os.environ[_SWITCH] = chosen
    # Information and warnings of TensorFlow's C++ side; errors still show.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    if not any(isinstance(finder, _KerasTunerFinder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _KerasTunerFinder())


def __getattr__(name: str) -> Any:
    if name == "tf_keras":
        return _require("tf_keras")
    raise AttributeError(f"{__name__} has no public name {name!r}")


def _require(name: str) -> ModuleType:
    try:
        with _quiet_start():
            return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name not in (name, "tensorflow"):
            raise
        raise ModuleNotFoundError(
            f"{error.name} is not installed; pip install 'tfrec-meta[core]'.", name=error.name
        ) from error


@contextlib.contextmanager
def _quiet_start() -> Iterator[None]:
    """Holds back what TensorFlow's libraries print before their log level applies.

    They greet on file descriptor 2 while they load, whatever TF_CPP_MIN_LOG_LEVEL says. If loading
    fails, what was held back is printed.
    """
    try:
        wanted = os.environ.get("TF_CPP_MIN_LOG_LEVEL") in ("0", "1")
        stderr = None if wanted or "tensorflow" in sys.modules else os.dup(2)
    except OSError:  # standard error is closed
        stderr = None
    if stderr is None:
        yield
        return
    with tempfile.TemporaryFile() as held:
        os.dup2(held.fileno(), 2)
        try:
            yield
        except BaseException:
            held.seek(0)
            os.write(stderr, held.read())
            raise
        finally:
            os.dup2(stderr, 2)
            os.close(stderr)


def _turn_tensorflow() -> None:
    """Turns a TensorFlow that was imported without the switch, if `tf.keras` is still unused."""
    tensorflow = sys.modules.get("tensorflow")
    if tensorflow is None or os.environ.get(_SWITCH) in _YES:
        return
    # TensorFlow resolves these lazily, and reads the switch when it does. `vars`, because
    # any look at an attribute resolves them.
    for name in ("keras", "losses", "metrics", "optimizers", "initializers"):
        resolved = vars(vars(tensorflow)[name]).get("__name__", "")
        if resolved.startswith("keras.") or f"tensorflow.{name}" in sys.modules:
            raise RuntimeError(
                f"TensorFlow is bound to Keras 3 already (something used `tf.{name}`), but "
                f"TensorFlow Recommenders and BERT need Keras 2. {_WAY_OUT}"
            )
    # `from tensorflow.keras import ...` goes by the path, which was set for Keras 3.
    spec = importlib.util.find_spec("tf_keras")
    if spec is not None and spec.submodule_search_locations:
        folder = os.path.join(spec.submodule_search_locations[0], "api", "_v2")
        tensorflow.__path__.insert(0, folder)


def _check_keras_tuner() -> None:
    config = sys.modules.get("keras_tuner.src.backend.config")
    if config is not None and config.multi_backend():
        raise RuntimeError(
            "KerasTuner is bound to Keras 3 already, and would refuse models of Keras 2. "
            f"{_WAY_OUT} TFX imports KerasTuner too."
        )


class _KerasTunerFinder(importlib.abc.MetaPathFinder):
    """Lets KerasTuner find tf_keras where it looks for Keras.

    KerasTuner 1.4.8 asks the module `keras` for its version, and serves Keras 3 models only if that
    is Keras 3, whatever `tf.keras` is. This can go when it asks `tf.keras`.
    """

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if name != "keras_tuner":
            return None
        others = (finder for finder in sys.meta_path if finder is not self)
        for finder in others:
            find = getattr(finder, "find_spec", None)
            spec = find(name, path, target) if find else None
            if spec is not None and spec.loader is not None:
                spec.loader = _KerasTunerLoader(spec.loader)
                return spec
        return None


class _KerasTunerLoader(importlib.abc.Loader):
    def __init__(self, loader: importlib.abc.Loader) -> None:
        self._loader = loader

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        return self._loader.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        # tf_keras stands in for `keras` during this import alone: a program's own Keras 3 stays.
        tf_keras = _require("tf_keras")
        held = {name: sys.modules.pop(name) for name in _keras_modules()}
        sys.modules["keras"] = tf_keras
        try:
            self._loader.exec_module(module)
        finally:
            for name in _keras_modules():
                del sys.modules[name]
            sys.modules.update(held)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._loader, name)  # resources and source of the real loader


def _keras_modules() -> list[str]:
    return [name for name in sys.modules if name == "keras" or name.startswith("keras.")]


use_keras2()
