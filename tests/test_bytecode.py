"""Set-up compiles the bytecode of packages: without it, TensorFlow loads half as fast."""

import importlib.util
from pathlib import Path

import pytest


@pytest.mark.parametrize("package", ["tensorflow", "tf_keras", "keras_tuner", "tfx", "apache_beam"])
def test_set_up_compiles_the_bytecode_of(package):
    source = importlib.util.find_spec(package).origin
    assert Path(importlib.util.cache_from_source(source)).is_file()
