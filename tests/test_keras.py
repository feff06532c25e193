"""The Keras version of a process, for each order of imports; each in a process of its own."""

import os
import pty
import subprocess
import sys
import textwrap

import pytest


def run_python(code: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Runs code in a new Python process, with TF_USE_LEGACY_KERAS only if it is given."""
    kept = {name: value for name, value in os.environ.items() if name != "TF_USE_LEGACY_KERAS"}
    return subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)],
        env={**kept, **environment},
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )


USE_EVERYTHING = """
    import tensorflow as tf
    from tensorflow.keras.layers import Dense
    from tfrec_meta.keras import tf_keras
    assert tf.keras.layers.Dense is tf_keras.layers.Dense is Dense
    assert tf.optimizers.Adam is tf_keras.optimizers.Adam

    import tensorflow_recommenders as tfrs
    tfrs.tasks.Retrieval()

    import keras_tuner  # as TFX does by itself
    import keras
    assert keras.__version__.startswith("3."), "the replacement for KerasTuner has to be gone"
    import tempfile
    import numpy as np

    def build(hyperparameters):
        units = hyperparameters.Int("units", 1, 4)
        model = tf_keras.Sequential([tf_keras.layers.Dense(units, input_shape=(2,))])
        model.compile("sgd", "mse")
        return model

    with tempfile.TemporaryDirectory() as folder:
        tuner = keras_tuner.RandomSearch(build, objective="loss", max_trials=1, directory=folder)
        tuner.search(np.zeros((4, 2)), np.zeros((4, 1)), epochs=1, verbose=0)
        model = tuner.hypermodel.build(keras_tuner.HyperParameters())
        model.save(folder + "/model")
        assert isinstance(tf.keras.models.load_model(folder + "/model"), tf_keras.Model)
"""


@pytest.mark.slow
def test_tensorflow_tfrs_and_keras_tuner_use_keras_2():
    done = run_python("import tfrec_meta" + USE_EVERYTHING.replace("\n    ", "\n"))
    assert done.returncode == 0, done.stderr[-3000:]


@pytest.mark.slow
def test_switches_a_tensorflow_that_was_imported_first_if_its_keras_is_unused():
    first = "import tensorflow, keras\nown = keras\nimport tfrec_meta"
    done = run_python(first + USE_EVERYTHING.replace("\n    ", "\n") + "\nassert keras is own\n")
    assert done.returncode == 0, done.stderr[-3000:]


@pytest.mark.slow
@pytest.mark.parametrize(
    "first, message",
    [
        ("import keras_tuner", "KerasTuner is bound to Keras 3"),
        ("import tensorflow as tf; tf.keras.layers.Dense(1)", "something used `tf.keras`"),
    ],
    ids=["KerasTuner", "TensorFlow"],
)
def test_refuses_a_process_that_is_bound_to_keras_3(first, message):
    done = run_python(first + "\nfrom tfrec_meta.keras import tf_keras")
    assert done.returncode == 1
    assert message in done.stderr
    assert "TF_USE_LEGACY_KERAS=1" in done.stderr


def test_refuses_a_disabled_switch_where_keras_is_used():
    code = "import tfrec_meta.serving\nprint('imported')\nfrom tfrec_meta.keras import tf_keras"
    done = run_python(code, TF_USE_LEGACY_KERAS="0")
    assert done.stdout == "imported\n"
    assert done.returncode == 1
    assert "TF_USE_LEGACY_KERAS='0', but" in done.stderr


def test_choosing_keras_2_loads_no_package():
    done = run_python(
        """
        import os, sys
        import tfrec_meta
        assert os.environ["TF_USE_LEGACY_KERAS"] == "1"
        assert not {"tensorflow", "tf_keras", "keras", "keras_tuner"} & set(sys.modules)
        from tfrec_meta.keras import use_keras2
        use_keras2()
        names = [type(finder).__name__ for finder in sys.meta_path]
        assert names.count("_Finder") == 1
        """
    )
    assert done.returncode == 0, done.stderr


def test_a_missing_package_is_reported_with_the_command_that_installs_it():
    done = run_python(
        """
        import sys
        sys.modules["tf_keras"] = None  # as if it were not installed
        from tfrec_meta.keras import tf_keras
        """
    )
    assert "needs tf_keras, which is not installed: pip install 'tfrec-meta[core]'" in done.stderr


@pytest.mark.parametrize("name", ["Keras", "keras_tuner"])
def test_refuses_unknown_public_names(name):
    import tfrec_meta.keras

    with pytest.raises(AttributeError, match=f"no public name '{name}'"):
        getattr(tfrec_meta.keras, name)


def test_a_terminal_shows_that_tensorflow_is_loading():
    """The line is cleared at the end; without a terminal nothing is printed."""
    code = "from tfrec_meta import keras\nwith keras._quiet_start():\n    pass"
    reader, terminal = pty.openpty()
    subprocess.run([sys.executable, "-c", code], stderr=terminal, check=True)
    assert os.read(reader, 1000) == b"loading TensorFlow ...\r\x1b[K"
    os.close(reader)
    os.close(terminal)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True)
    assert done.stderr == b""
