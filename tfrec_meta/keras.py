"""The one place that chooses Keras 2 (tf_keras), which TFRS and TensorFlow's BERT need.

`import tfrec_meta`, or the import of any module below it, calls `use_keras2`. From then on
`tf.keras` is tf_keras. KerasTuner uses tf_keras, too, even if another package such as TFX imports
it. A TensorFlow that was imported earlier is switched to Keras 2 if nothing has used its `tf.keras`
yet. The choice loads no package and raises no error. Code that needs Keras imports it from here:

    from tfrec_meta.keras import tf_keras

This loads TensorFlow, and raises a RuntimeError where TensorFlow or KerasTuner is bound to Keras 3.
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

from tfrec_meta.extras import not_installed

__all__ = ["hide_tensorflow_errors", "require_keras2", "tf_keras", "use_keras2"]  # noqa: F822  (tf_keras is lazy)

_SWITCH = "TF_USE_LEGACY_KERAS"
_YES = ("1", "True", "true")  # the values that TensorFlow reads as true
_WAY_OUT = "Import `tfrec_meta.keras` first, or set TF_USE_LEGACY_KERAS=1 before Python starts."


def use_keras2() -> None:
    """Makes this process use Keras 2; `import tfrec_meta` calls it.

    Changes nothing where TF_USE_LEGACY_KERAS is set to another value than 1, or Keras 3 is already
    in use: `require_keras2` reports that where Keras is needed.
    """
    chosen = os.environ.get(_SWITCH, "1")
    if chosen not in _YES:
        return
    if _conflict_of_tensorflow() is None:
        _switch_tensorflow()
        os.environ[_SWITCH] = chosen
    # Hides information and warnings of TensorFlow's C++ side; errors still show.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    if not any(isinstance(finder, _Finder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Finder())


def hide_tensorflow_errors() -> None:
    """Hides the log of TensorFlow's C++ side, errors included, for programs that report their own.

    Call it before TensorFlow is imported. Another level that the user has set in
    TF_CPP_MIN_LOG_LEVEL stays.
    """
    if os.environ.get("TF_CPP_MIN_LOG_LEVEL", "2") == "2":  # the level of `use_keras2`
        os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"


def require_keras2() -> None:
    """Checks that this process uses Keras 2.

    Raises:
        RuntimeError: if TF_USE_LEGACY_KERAS is set to another value than 1, or TensorFlow or
            KerasTuner is bound to Keras 3.
    """
    chosen = os.environ.get(_SWITCH, "1")
    if chosen not in _YES:
        raise RuntimeError(
            f"{_SWITCH}={chosen!r}, but TensorFlow Recommenders and BERT need Keras 2. "
            "Unset it or set it to 1."
        )
    problem = _conflict_of_tensorflow() or _conflict_of_keras_tuner()
    if problem:
        raise RuntimeError(problem)


def __getattr__(name: str) -> Any:
    if name == "tf_keras":
        require_keras2()
        return _load(name)
    raise AttributeError(f"{__name__} has no public name {name!r}")


def _load(name: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name not in (name, "tensorflow"):
            raise
        raise not_installed("`tfrec_meta.keras`", error) from error


@contextlib.contextmanager
def _quiet_start() -> Iterator[None]:
    """Hides what TensorFlow's libraries print before their log level applies.

    They print to file descriptor 2 while they load, for any value of TF_CPP_MIN_LOG_LEVEL. If
    loading fails, the hidden output is printed. A terminal shows that TensorFlow is loading, since
    this takes seconds.
    """
    try:
        wanted = os.environ.get("TF_CPP_MIN_LOG_LEVEL") in ("0", "1")
        stderr = None if wanted else os.dup(2)
    except OSError:  # standard error is closed
        stderr = None
    if stderr is None:
        yield
        return
    on_terminal = os.isatty(stderr)
    if on_terminal:
        os.write(stderr, b"loading TensorFlow ...")
    with tempfile.TemporaryFile() as held:
        os.dup2(held.fileno(), 2)
        try:
            yield
        except BaseException:
            held.seek(0)
            os.write(stderr, held.read())
            raise
        finally:
            if on_terminal:
                os.write(stderr, b"\r\x1b[K")  # clears the line
            os.dup2(stderr, 2)
            os.close(stderr)


def _conflict_of_tensorflow() -> str | None:
    """Returns why a TensorFlow that was imported before cannot be switched; None if it can."""
    tensorflow = sys.modules.get("tensorflow")
    if tensorflow is None or os.environ.get(_SWITCH) in _YES:
        return None
    # TensorFlow reads the switch when it resolves these lazy attributes. `vars` is used because
    # any attribute access would resolve them.
    for name in ("keras", "losses", "metrics", "optimizers", "initializers"):
        resolved = vars(vars(tensorflow)[name]).get("__name__", "")
        if resolved.startswith("keras.") or f"tensorflow.{name}" in sys.modules:
            return (
                f"TensorFlow is bound to Keras 3 already (something used `tf.{name}`), but "
                f"TensorFlow Recommenders and BERT need Keras 2. {_WAY_OUT}"
            )
    return None


def _switch_tensorflow() -> None:
    """Switches a TensorFlow that was imported without TF_USE_LEGACY_KERAS to Keras 2."""
    tensorflow = sys.modules.get("tensorflow")
    if tensorflow is None or os.environ.get(_SWITCH) in _YES:
        return
    # `from tensorflow.keras import ...` follows this path, which was set for Keras 3.
    spec = importlib.util.find_spec("tf_keras")
    if spec is not None and spec.submodule_search_locations:
        folder = os.path.join(spec.submodule_search_locations[0], "api", "_v2")
        tensorflow.__path__.insert(0, folder)


def _conflict_of_keras_tuner() -> str | None:
    config = sys.modules.get("keras_tuner.src.backend.config")
    if config is None or not config.multi_backend():
        return None
    return (
        "KerasTuner is bound to Keras 3 already, and would reject models of Keras 2. "
        f"{_WAY_OUT} TFX imports KerasTuner too."
    )


class _Finder(importlib.abc.MetaPathFinder):
    """Wraps the loaders of TensorFlow (to silence its start) and of KerasTuner.

    KerasTuner 1.4.8 reads the version of the module `keras`. If that is Keras 3, it accepts only
    models of Keras 3, even if `tf.keras` is Keras 2. Remove `_KerasTunerLoader` once KerasTuner
    reads the version of `tf.keras`.
    """

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if name not in ("keras_tuner", "tensorflow"):
            return None
        wrapper = _KerasTunerLoader if name == "keras_tuner" else _QuietLoader
        others = (finder for finder in sys.meta_path if finder is not self)
        for finder in others:
            find = getattr(finder, "find_spec", None)
            spec = find(name, path, target) if find else None
            if spec is not None and spec.loader is not None:
                spec.loader = wrapper(spec.loader)
                return spec
        return None


class _Loader(importlib.abc.Loader):
    """Wraps a real loader, and passes on its resources and its source."""

    def __init__(self, loader: importlib.abc.Loader) -> None:
        self._loader = loader

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        return self._loader.create_module(spec)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._loader, name)


class _QuietLoader(_Loader):
    def exec_module(self, module: ModuleType) -> None:
        with _quiet_start():
            self._loader.exec_module(module)


class _KerasTunerLoader(_Loader):
    def exec_module(self, module: ModuleType) -> None:
        # tf_keras replaces `keras` during this import only: Keras 3 of the program stays.
        tf_keras = _load("tf_keras")
        held = {name: sys.modules.pop(name) for name in _keras_modules()}
        sys.modules["keras"] = tf_keras
        try:
            self._loader.exec_module(module)
        finally:
            for name in _keras_modules():
                del sys.modules[name]
            sys.modules.update(held)


def _keras_modules() -> list[str]:
    return [name for name in sys.modules if name == "keras" or name.startswith("keras.")]
