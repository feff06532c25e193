"""A push is atomic, also when it is killed or concurrent."""

import errno
import fcntl
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from tests.store_servers import DENIED
from tfrec_meta.export.signatures import MANIFEST
from tfrec_meta.io.damage import DamagedFile
from tfrec_meta.io.manifests import write_manifest
from tfrec_meta.io.stores import RemotePath, StoreError
from tfrec_meta.pipeline.serving_folder import digest, newest_version, push, served

ROOT = Path(__file__).parents[2]
PUSH = (
    "import sys; from tfrec_meta.pipeline.serving_folder import push; push(*sys.argv[1:]); "
    "assert not {'tensorflow', 'tfx'} & set(sys.modules)"
)


@pytest.fixture
def model(tmp_path):
    return make_model(tmp_path / "model", b"graph")


def make_model(folder: Path, content: bytes) -> Path:
    (folder / "variables").mkdir(parents=True)
    (folder / "assets.extra").mkdir()
    (folder / "saved_model.pb").write_bytes(content)
    (folder / "variables" / "variables.index").write_bytes(b"index")
    return folder


def contents(folder: Path) -> dict[str, bytes]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


def versions(serving: Path) -> list[str]:
    return sorted(path.name for path in serving.iterdir() if not path.name.startswith("."))


def test_the_first_push_is_version_1_with_every_file(model, tmp_path):
    pushed = push(model, tmp_path / "served" / "films")
    assert (pushed.version, pushed.is_new) == (1, True)
    assert pushed.folder == tmp_path / "served" / "films" / "1"
    assert contents(pushed.folder) == contents(model)
    assert (pushed.folder / "assets.extra").is_dir()


def test_the_servers_user_can_read_a_pushed_version(model, tmp_path):
    mask = os.umask(0o022)
    try:
        folder = push(model, tmp_path / "films").folder
    finally:
        os.umask(mask)
    assert folder.stat().st_mode & 0o777 == 0o755


def test_the_next_version_follows_the_highest_number(model, tmp_path):
    make_model(tmp_path / "films" / "9", b"other")
    make_model(tmp_path / "films" / "10", b"another")
    assert push(model, tmp_path / "films").version == 11


def test_does_not_push_the_newest_model_again(model, tmp_path):
    push(model, tmp_path / "films")
    again = push(model, tmp_path / "films")
    assert (again.version, again.is_new) == (1, False)
    assert versions(tmp_path / "films") == ["1"]


def test_pushes_an_older_model_again_as_a_new_version(model, tmp_path):
    other = make_model(tmp_path / "other", b"other")
    pushed = [push(each, tmp_path / "films").version for each in (model, other, model)]
    assert pushed == [1, 2, 3]


def test_refuses_a_folder_without_a_saved_model(tmp_path):
    (tmp_path / "model").mkdir()
    with pytest.raises(FileNotFoundError, match=r"has no saved_model\.pb"):
        push(tmp_path / "model", tmp_path / "films")
    assert not (tmp_path / "films").exists()


def test_removes_leftovers_of_killed_pushes(model, tmp_path):
    make_model(tmp_path / "films" / ".push.0123456789abcdef.part", b"half")
    push(model, tmp_path / "films")
    assert not list((tmp_path / "films").glob(".push*/"))


def test_skips_a_number_that_another_push_took(model, tmp_path, monkeypatch):
    rename = os.rename

    def beaten(source, target):
        if Path(target).name == "1":
            raise OSError(errno.ENOTEMPTY, "Directory not empty")
        rename(source, target)

    monkeypatch.setattr(os, "rename", beaten)
    assert push(model, tmp_path / "films").version == 2


def test_keeps_recent_files_of_other_pushes_without_locks(model, tmp_path, monkeypatch):
    def no_locks(file, operation):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", no_locks)
    theirs = make_model(tmp_path / "films" / ".push.0123456789abcdef.part", b"half")
    assert push(model, tmp_path / "films").version == 1
    assert theirs.is_dir()


def test_a_model_that_differs_from_its_manifest_is_not_pushed(model, tmp_path):
    write_manifest(model, MANIFEST)
    assert push(model, tmp_path / "films").version == 1
    (model / "saved_model.pb").write_bytes(b"gr")
    with pytest.raises(DamagedFile, match=r"saved_model\.pb is damaged: it has 2 of 5 bytes"):
        push(model, tmp_path / "films")
    assert versions(tmp_path / "films") == ["1"]


def test_concurrent_pushes_get_different_versions(tmp_path):
    models = [make_model(tmp_path / f"model{n}", str(n).encode()) for n in range(8)]
    found = []
    threads = [
        threading.Thread(target=lambda m=m: found.append(push(m, tmp_path / "films").version))
        for m in models
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(found) == list(range(1, 9))
    pushed = {contents(tmp_path / "films" / str(n))["saved_model.pb"] for n in range(1, 9)}
    assert pushed == {str(n).encode() for n in range(8)}


def test_the_digest_depends_on_names_and_contents(tmp_path):
    one = make_model(tmp_path / "one", b"graph")
    assert digest(one) == digest(make_model(tmp_path / "two", b"graph"))
    assert digest(one) != digest(make_model(tmp_path / "three", b"other"))
    (one / "saved_model.pb").rename(one / "saved_model.pbtxt")
    assert digest(one) != digest(tmp_path / "two")


def test_ignores_folders_that_are_not_versions(tmp_path):
    for name in ("3", "007", "0", "latest", "-4"):
        (tmp_path / name).mkdir()
    assert newest_version(tmp_path) == 3
    assert newest_version(tmp_path / "nowhere") == 0


def test_a_killed_push_leaves_no_incomplete_version(tmp_path):
    model = make_model(tmp_path / "model", b"graph")
    for part in range(200):
        (model / "variables" / f"part-{part}").write_bytes(os.urandom(20_000))
    whole, serving = contents(model), tmp_path / "films"
    seen = 0
    for delay in (0, 0.01, 0.03):
        process = subprocess.Popen([sys.executable, "-c", PUSH, str(model), str(serving)], cwd=ROOT)
        end = time.monotonic() + 30
        while not list(serving.glob(".push*/")) and process.poll() is None:
            assert time.monotonic() < end
            time.sleep(0.001)
        time.sleep(delay)
        process.send_signal(signal.SIGKILL)
        process.wait()
        for name in versions(serving):
            seen += 1
            assert contents(serving / name) == whole
        if seen:  # the push was faster than the kill
            break
    subprocess.run([sys.executable, "-c", PUSH, str(model), str(serving)], cwd=ROOT, check=True)
    assert versions(serving) == ["1"]
    assert contents(serving / "1") == whole
    assert not list(serving.glob(".push*/"))


def test_a_push_to_an_object_store_ends_with_the_manifest(model, s3, s3_proxy):
    write_manifest(model, MANIFEST)
    serving = f"{s3}/models/films"
    assert served(serving) == "0"
    pushed = push(model, serving)
    assert (pushed.version, str(pushed.folder), pushed.is_new) == (1, f"{serving}/1", True)
    assert set(RemotePath(serving).files()) == {f"1/{name}" for name in contents(model)}
    written = [path for method, path in s3_proxy.seen if method == "PUT" and "partNumber" in path]
    assert MANIFEST in written[-1]


def test_a_model_is_pushed_to_an_object_store_once(model, s3):
    write_manifest(model, MANIFEST)
    serving = f"{s3}/models/films"
    push(model, serving)
    before = served(serving)
    again = push(model, serving)
    assert (again.version, again.is_new) == (1, False)
    (model / "saved_model.pb").write_bytes(b"another graph")
    write_manifest(model, MANIFEST)
    assert push(model, serving).version == 2
    assert before.startswith("1 ")
    assert served(serving).startswith("2 ")


def test_a_push_that_fails_in_the_middle_leaves_the_last_version_served(model, s3, s3_proxy):
    write_manifest(model, MANIFEST)
    serving = f"{s3}/models/films"
    push(model, serving)
    (model / "saved_model.pb").write_bytes(b"another graph")
    write_manifest(model, MANIFEST)
    s3_proxy.rule = lambda method, path: DENIED if "saved_model" in path else None
    with pytest.raises(StoreError, match="refused the credentials"):
        push(model, serving)
    assert served(serving).startswith("1 ")
    s3_proxy.rule = lambda method, path: None
    assert push(model, serving).is_new
