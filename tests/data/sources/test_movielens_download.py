"""MovieLens is downloaded once, checked, and never half there."""

import hashlib
import io
import os
import subprocess
import threading
import zipfile
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import pytest

from tests.data.sources.test_movielens import FILES_1M, FILES_CSV
from tfrec_meta.data import fetch_movielens, is_fetched, movielens
from tfrec_meta.data.sources import movielens_download
from tfrec_meta.io.files import cache_folder


def test_the_cache_folder_follows_the_environment(tmp_path, monkeypatch):
    monkeypatch.setenv("TFREC_META_CACHE", str(tmp_path / "chosen"))
    assert cache_folder() == tmp_path / "chosen"
    assert cache_folder(tmp_path) == tmp_path
    monkeypatch.delenv("TFREC_META_CACHE")
    assert cache_folder().name == "tfrec-meta"


def test_a_damaged_cache_is_fetched_again(tmp_path, monkeypatch):
    whole = fetch_movielens("100k")
    wheel = io.BytesIO()
    with zipfile.ZipFile(wheel, "w") as archive:
        for file in whole.iterdir():
            archive.write(file, f"recbole/dataset_example/ml-100k/{file.name}")
    calls = []

    def pip(command, **_):
        calls.append(command)
        into = command[command.index("--dest") + 1]
        with open(os.path.join(into, "recbole-1.2.1-py3-none-any.whl"), "wb") as file:
            file.write(wheel.getvalue())
        return subprocess.CompletedProcess(command, 0, "", "")

    monkeypatch.setattr(subprocess, "run", pip)
    assert not is_fetched("100k", tmp_path)
    folder = fetch_movielens("100k", tmp_path)
    assert is_fetched("100k", tmp_path)
    fetch_movielens("100k", tmp_path)
    assert len(calls) == 1
    assert {"--require-hashes", "--no-deps"} < set(calls[0])
    (folder / "ml-100k.inter").write_bytes((folder / "ml-100k.inter").read_bytes()[:1000])
    assert not is_fetched("100k", tmp_path)
    assert len(movielens("100k", cache=tmp_path)) == 100_000
    assert len(calls) == 2
    assert [path.name for path in tmp_path.iterdir()] == ["movielens-100k"]


def test_failure_of_pip_gives_one_clear_line(tmp_path, monkeypatch):
    def pip(command, **_):
        error = "WARNING: retrying\nERROR: No matching distribution found for recbole==1.2.1\n"
        return subprocess.CompletedProcess(command, 1, "", error)

    monkeypatch.setattr(subprocess, "run", pip)
    with pytest.raises(ConnectionError, match="could not be fetched: ERROR: No matching") as error:
        movielens("100k", cache=tmp_path)
    assert "\n" not in str(error.value)
    assert not list(tmp_path.iterdir())


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_):
        pass


@pytest.fixture
def grouplens(tmp_path, monkeypatch):
    """A folder that a server on this machine offers in GroupLens's place."""
    offered = tmp_path / "offered"
    offered.mkdir()
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(offered)))
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    url = f"http://127.0.0.1:{server.server_port}/"
    monkeypatch.setattr(movielens_download, "_GROUPLENS", url)
    yield offered
    server.shutdown()
    server.server_close()
    thread.join()


def packed(files, folder):
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(f"{folder}/", "")
        for name, text in files.items():
            archive.writestr(f"{folder}/{name}", text.encode("latin1"))
        archive.writestr(f"../{folder}/outside.csv", "not ours")
    return content.getvalue()


@pytest.mark.parametrize("form", ["MD5 (ml-1m.zip) = {}\n", "{}  ml-1m.zip\n", None])
def test_grouplens_is_fetched_once_and_checked(tmp_path, grouplens, form):
    content = packed(FILES_1M, "ml-1m")
    (grouplens / "ml-1m.zip").write_bytes(content)
    if form:
        digest = hashlib.md5(content).hexdigest()
        (grouplens / "ml-1m.zip.md5").write_text(form.format(digest))
    cache = tmp_path / "cache"
    data = movielens("1m", cache=cache)
    assert len(data) == 2
    assert sorted(path.name for path in (cache / "movielens-1m").iterdir()) == sorted(FILES_1M)
    (grouplens / "ml-1m.zip").unlink()
    assert movielens("1m", cache=cache).equals(data)
    assert is_fetched("1m", cache)


def test_a_wrong_checksum_or_a_damaged_archive_leaves_nothing(tmp_path, grouplens):
    content = packed(FILES_CSV, "ml-25m")
    cache = tmp_path / "cache"
    (grouplens / "ml-25m.zip").write_bytes(content)
    (grouplens / "ml-25m.zip.md5").write_text("0" * 32)
    with pytest.raises(ValueError, match="has MD5"):
        movielens("25m", cache=cache)
    (grouplens / "ml-25m.zip.md5").unlink()
    (grouplens / "ml-25m.zip").write_bytes(content[: len(content) // 2])
    with pytest.raises(ValueError, match="came damaged"):
        movielens("25m", cache=cache)
    assert not list(cache.iterdir())


def test_missing_network_gives_one_clear_line(tmp_path, monkeypatch):
    # Port 9 of this machine: nothing listens there.
    monkeypatch.setattr(movielens_download, "_GROUPLENS", "http://127.0.0.1:9/")
    with pytest.raises(ConnectionError, match="MovieLens 20m could not be fetched") as error:
        movielens("20m", cache=tmp_path)
    assert "\n" not in str(error.value)
    assert not list(tmp_path.iterdir())
