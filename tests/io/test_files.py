import hashlib
import os

import pytest

from tfrec_meta.io.files import atomic_folder, sha256_of


def test_the_folder_appears_only_when_it_is_complete(tmp_path):
    target = tmp_path / "deep" / "target"
    with atomic_folder(target) as work:
        (work / "file").write_text("new")
        assert not target.exists()
        assert work.parent == target.parent
    assert (target / "file").read_text() == "new"
    assert [path.name for path in target.parent.iterdir()] == ["target"]


def test_a_failure_leaves_the_old_folder_and_nothing_else(tmp_path):
    target = tmp_path / "target"
    with atomic_folder(target) as work:
        (work / "file").write_text("old")

    def fail():
        with atomic_folder(target, overwrite=True) as work:
            (work / "file").write_text("half")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert (target / "file").read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["target"]


def test_overwriting_drops_the_old_files(tmp_path):
    target = tmp_path / "target"
    for name in ("old", "new"):
        with atomic_folder(target, overwrite=True) as work:
            (work / name).write_text(name)
    assert [path.name for path in target.iterdir()] == ["new"]
    assert [path.name for path in tmp_path.iterdir()] == ["target"]


def test_nothing_is_replaced_unasked(tmp_path):
    target = tmp_path / "target"
    target.mkdir()
    with pytest.raises(FileExistsError, match="overwrite=True"), atomic_folder(target):
        pass


def test_whoever_is_slower_does_not_overwrite(tmp_path):
    target = tmp_path / "target"

    def be_slow():
        with atomic_folder(target):
            target.mkdir()
            (target / "file").write_text("theirs")

    with pytest.raises(FileExistsError, match="another process"):
        be_slow()
    assert (target / "file").read_text() == "theirs"
    assert [path.name for path in tmp_path.iterdir()] == ["target"]


def test_the_folder_can_be_read_by_whom_the_umask_allows(tmp_path):
    old = os.umask(0o022)
    try:
        with atomic_folder(tmp_path / "target"):
            pass
    finally:
        os.umask(old)
    assert (tmp_path / "target").stat().st_mode & 0o777 == 0o755


def test_sha256(tmp_path):
    (tmp_path / "file").write_bytes(b"abc")
    assert sha256_of(tmp_path / "file") == hashlib.sha256(b"abc").hexdigest()
