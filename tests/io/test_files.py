"""Files and folders that appear complete or not at all."""

import os

import pytest

from tfrec_meta.io import files
from tfrec_meta.io.files import (
    atomic_file,
    atomic_folder,
    clear_leftovers,
    publish_folder,
    write_text,
)


def names(folder):
    return [path.name for path in folder.iterdir()]


# Files.


def test_file_appears_only_when_it_is_complete(tmp_path):
    path = tmp_path / "deep" / "file.npz"
    with atomic_file(path) as work:
        work.write_text("new")
        assert not path.exists()
        assert work.parent == path.parent
        assert not list(path.parent.glob("*.npz"))
    assert path.read_text() == "new"
    assert names(path.parent) == ["file.npz"]


def test_failure_keeps_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "file"
    write_text(path, "old")

    def fail():
        with atomic_file(path) as work:
            work.write_text("half")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert path.read_text() == "old"
    assert names(tmp_path) == ["file"]


def test_file_is_flushed_before_the_rename_and_its_folder_after(tmp_path, monkeypatch):
    path, events = tmp_path / "file", []
    fsync, replace = os.fsync, os.replace

    def recorded_fsync(descriptor):
        events.append("folder" if os.path.isdir(f"/proc/self/fd/{descriptor}") else "file")
        fsync(descriptor)

    def recorded_replace(source, target):
        events.append("rename")
        replace(source, target)

    monkeypatch.setattr(os, "fsync", recorded_fsync)
    monkeypatch.setattr(os, "replace", recorded_replace)
    write_text(path, "text")
    assert events == ["file", "rename", "folder"]


def test_text_is_written_as_utf_8(tmp_path):
    write_text(tmp_path / "file", "é\n")
    assert (tmp_path / "file").read_bytes() == b"\xc3\xa9\n"


@pytest.mark.parametrize(("mode", "expected"), [(0o666, 0o640), (0o600, 0o600)])
def test_permissions_of_a_file_follow_the_umask(tmp_path, mode, expected):
    old = os.umask(0o027)
    try:
        write_text(tmp_path / "file", "text", mode=mode)
    finally:
        os.umask(old)
    assert (tmp_path / "file").stat().st_mode & 0o777 == expected


# Folders.


def test_folder_appears_only_when_it_is_complete(tmp_path):
    target = tmp_path / "deep" / "target"
    with atomic_folder(target) as work:
        (work / "file").write_text("new")
        assert not target.exists()
        assert work.parent == target.parent
    assert (target / "file").read_text() == "new"
    assert names(target.parent) == ["target"]


def test_failure_keeps_the_old_folder_and_nothing_else(tmp_path):
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
    assert names(tmp_path) == ["target"]


def test_overwriting_removes_the_old_files(tmp_path):
    target = tmp_path / "target"
    for name in ("old", "new"):
        with atomic_folder(target, overwrite=True) as work:
            (work / name).write_text(name)
    assert names(target) == ["new"]
    assert names(tmp_path) == ["target"]


def test_refuses_to_replace_a_folder_without_overwrite(tmp_path):
    target = tmp_path / "target"
    target.mkdir()
    with pytest.raises(FileExistsError, match="overwrite=True"), atomic_folder(target):
        pass


def test_slower_writer_does_not_replace_the_folder_of_another_process(tmp_path):
    target = tmp_path / "target"

    def be_slow():
        with atomic_folder(target):
            target.mkdir()
            (target / "file").write_text("theirs")

    with pytest.raises(FileExistsError, match="another process"):
        be_slow()
    assert (target / "file").read_text() == "theirs"
    assert names(tmp_path) == ["target"]


def test_permissions_of_a_folder_follow_the_umask(tmp_path):
    old = os.umask(0o022)
    try:
        with atomic_folder(tmp_path / "target"):
            pass
    finally:
        os.umask(old)
    assert (tmp_path / "target").stat().st_mode & 0o777 == 0o755


def test_all_files_of_a_folder_are_flushed_before_the_rename(tmp_path, monkeypatch):
    target, flushed = tmp_path / "target", []
    fsync = os.fsync

    def recorded(descriptor):
        flushed.append(
            (os.path.basename(os.readlink(f"/proc/self/fd/{descriptor}")), target.exists())
        )
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", recorded)
    with atomic_folder(target) as work:
        (work / "below").mkdir()
        (work / "below" / "file").write_text("text")
    assert {"file", "below"} <= {name for name, published in flushed if not published}
    assert flushed[-1] == (tmp_path.name, True)


def test_publishing_refuses_an_existing_folder(tmp_path):
    for name in ("work", "target"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").write_text(name)
    with pytest.raises(FileExistsError, match="another process"):
        publish_folder(tmp_path / "work", tmp_path / "target")
    assert (tmp_path / "target" / "file").read_text() == "target"


# Left-overs of killed writers.


def test_the_next_writer_clears_what_killed_writers_left(tmp_path):
    (tmp_path / ".model.0123456789abcdef.part").mkdir()
    (tmp_path / ".model.0123456789abcdef.part" / "half").write_text("half")
    (tmp_path / ".file.0123456789abcdef.part").write_text("half")
    (tmp_path / ".mine.part").write_text("of another program")
    write_text(tmp_path / "file", "text")
    assert sorted(names(tmp_path)) == [".mine.part", "file"]


def test_files_of_running_writers_stay(tmp_path):
    with atomic_folder(tmp_path / "slow") as slow:
        (slow / "part").write_text("kept")
        assert clear_leftovers(tmp_path) == []
        write_text(tmp_path / "quick", "text")
        assert (slow / "part").exists()
    assert sorted(names(tmp_path)) == ["quick", "slow"]


def test_left_overs_of_earlier_versions_are_cleared_after_an_hour(tmp_path):
    earlier = [tmp_path / name for name in (".2.ab_cd123", ".model.abcdefgh", ".net-77.partial")]
    for path in earlier:
        path.mkdir()
    assert clear_leftovers(tmp_path) == []
    for path in earlier:
        os.utime(path, (0, 0))
    assert sorted(clear_leftovers(tmp_path)) == sorted(earlier)


@pytest.mark.parametrize("swaps", [True, False], ids=["one step", "two renames"])
def test_a_replaced_folder_is_never_missing_after_a_kill(tmp_path, swaps, monkeypatch):
    target = tmp_path / "target"
    with atomic_folder(target) as work:
        (work / "file").write_text("old")
    if not swaps:  # a file system without an exchange of names
        monkeypatch.setattr(files, "_swap", lambda one, other: False)
    with atomic_folder(target, overwrite=True) as work:
        (work / "file").write_text("new")
    assert (target / "file").read_text() == "new"
    assert names(tmp_path) == ["target"]
    # A kill between the two renames leaves only the old folder, under a hidden name.
    target.rename(tmp_path / ".target.0123456789abcdef.old")
    clear_leftovers(tmp_path)
    assert (target / "file").read_text() == "new"
