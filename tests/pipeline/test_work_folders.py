"""Work folders: one per inputs and settings, kept after a failure and removed after success."""

import json
from pathlib import Path

import pytest
from tfx.types import standard_artifacts

from tests.pipeline import conftest
from tfrec_meta.pipeline import work_folders


def inputs_at(folder):
    artifact = conftest.make_artifact(standard_artifacts.Examples, folder)
    return {"examples": [artifact], "catalogue": [artifact]}


def properties(tmp_path, **config):
    return {"work": str(tmp_path / "work"), "custom_config": json.dumps(config)}


def folder_of(inputs, exec_properties, kind="training"):
    with work_folders.locked_folder(kind, inputs, exec_properties) as folder:
        return folder


def test_the_folder_depends_on_kind_inputs_and_settings(tmp_path):
    inputs, given = inputs_at(tmp_path / "a"), properties(tmp_path, seed=1)
    folder = folder_of(inputs, given)
    assert folder.parent == tmp_path / "work" / "training"
    assert folder_of(inputs, given) == folder
    others = {
        folder_of(inputs_at(tmp_path / "b"), given),
        folder_of(inputs, properties(tmp_path, seed=2)),
        folder_of(inputs, given, "studies"),
    }
    assert folder not in others
    assert len(others) == 3


def test_keeps_the_folder_after_a_failure_and_removes_it_after_success(tmp_path):
    inputs, given = inputs_at(tmp_path / "a"), properties(tmp_path)

    def fail():
        with work_folders.locked_folder("training", inputs, given) as folder:
            folder.mkdir()
            (folder / "checkpoint").touch()
            raise ArithmeticError

    with pytest.raises(ArithmeticError):
        fail()
    with work_folders.locked_folder("training", inputs, given) as again:
        assert (again / "checkpoint").exists()
    assert not again.exists()


def test_adds_folder_and_catalogue_to_the_settings(tmp_path):
    inputs, given = inputs_at(tmp_path / "a"), properties(tmp_path, seed=1)
    made = work_folders.with_paths(Path("/runs/1"), inputs, given)
    config = json.loads(made["custom_config"])
    assert config == {"seed": 1, "folder": "/runs/1", "catalogue": str(tmp_path / "a")}
    assert made["work"] == given["work"]
