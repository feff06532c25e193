"""The local server of a folder on an object store."""

import logging
import shutil
import time

import pytest

from tests.store_servers import DENIED
from tfrec_meta.export.published import publish
from tfrec_meta.export.signatures import MANIFEST
from tfrec_meta.io.manifests import write_manifest
from tfrec_meta.io.stores import RemotePath
from tfrec_meta.serving import LocalServer
from tfrec_meta.serving.protocol.errors import ServerStartError
from tfrec_meta.serving.server.fetched import FetchedVersions


@pytest.fixture(autouse=True)
def _cache(tmp_path, monkeypatch):
    monkeypatch.setenv("TFREC_META_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def base(s3):
    return RemotePath(f"{s3}/models/movies")


@pytest.fixture
def put(base, tmp_path):
    """put(graph): publishes a small version, and returns its number."""

    def put(graph=b"graph"):
        folder = tmp_path / "version"
        (folder / "assets.extra").mkdir(parents=True, exist_ok=True)
        (folder / "saved_model.pb").write_bytes(graph)
        (folder / MANIFEST).unlink(missing_ok=True)
        write_manifest(folder, MANIFEST)
        return int(publish(folder, base).name)

    return put


def versions(fetched):
    return sorted(int(path.name) for path in fetched.folder.iterdir())


def test_the_newest_version_is_fetched_once(base, put, s3_proxy):
    put(), put()
    fetched = FetchedVersions(base, "latest")
    fetched.start()
    assert versions(fetched) == [2]
    s3_proxy.seen.clear()
    fetched.refresh()
    assert all("list-type" in path for _, path in s3_proxy.seen)
    put()
    fetched.refresh()
    assert versions(fetched) == [2, 3]  # and the one before, in case that 3 does not load


def test_all_and_given_versions_are_fetched(base, put):
    put(), put(), put()
    everything, some = FetchedVersions(base, "all"), FetchedVersions(base, [1, 3])
    everything.start()
    some.start()
    assert (versions(everything), versions(some)) == ([1, 2, 3], [1, 3])


def test_a_version_that_is_being_published_is_not_there(base, put):
    put()
    (base / "2/saved_model.pb").write(b"graph")
    fetched = FetchedVersions(base, "latest")
    fetched.start()
    assert versions(fetched) == [1]


def test_a_damaged_version_is_skipped(base, put, caplog):
    put(), put()
    (base / "2/saved_model.pb").write(b"GRAPH")
    fetched = FetchedVersions(base, "latest")
    fetched.start()
    fetched.refresh()
    assert versions(fetched) == [1]
    assert caplog.text.count("skipped version 2") == 1


def test_a_withdrawn_version_is_removed(base, put):
    put(), put()
    fetched = FetchedVersions(base, "all")
    fetched.start()
    (base / "2").remove()
    fetched.refresh()
    assert versions(fetched) == [1]


def test_a_damaged_local_copy_is_fetched_again(base, put):
    put()
    first = FetchedVersions(base, "latest")
    first.start()
    (first.folder / "1" / "saved_model.pb").write_bytes(b"GRAPH")
    FetchedVersions(base, "latest").start()
    assert (first.folder / "1" / "saved_model.pb").read_bytes() == b"graph"


def test_a_version_that_was_exported_anew_under_its_number_is_fetched_again(base, put):
    put()
    first = FetchedVersions(base, "latest")
    first.start()
    base.remove()
    assert put(b"other graph") == 1
    FetchedVersions(base, "latest").start()
    assert (first.folder / "1" / "saved_model.pb").read_bytes() == b"other graph"


def test_stores_with_the_same_bucket_share_no_copies(base, monkeypatch):
    folders = {FetchedVersions(base, "latest").folder}
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    folders.add(FetchedVersions(base, "latest").folder)
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", "http://127.0.0.1:2")
    folders.add(FetchedVersions(base, "latest").folder)
    assert len(folders) == 3


def test_without_the_store_a_server_starts_with_what_it_fetched_earlier(
    base, put, s3_proxy, caplog
):
    put()
    FetchedVersions(base, "latest").start()
    s3_proxy.rule = lambda method, path: DENIED
    with caplog.at_level(logging.WARNING):
        FetchedVersions(base, "latest").start()
    assert "The versions that were fetched earlier are served." in caplog.text


def test_without_the_store_and_without_versions_a_server_does_not_start(base, s3_proxy):
    s3_proxy.rule = lambda method, path: DENIED
    with pytest.raises(ServerStartError, match="refused the credentials"):
        LocalServer(str(base)).start()


def test_a_folder_without_a_version_is_named(base, put):
    with pytest.raises(ServerStartError, match="no version with a manifest"):
        LocalServer(str(base)).start()
    put()
    with pytest.raises(ServerStartError, match=r"holds the versions \[1\]"):
        LocalServer(str(base), versions=[4]).start()


def test_a_model_on_a_store_is_served_and_new_versions_follow(movies_base, base, tmp_path):
    version = tmp_path / "toy"
    shutil.copytree(movies_base / "3", version)
    write_manifest(version, MANIFEST)
    publish(version, base)
    with LocalServer(str(base), poll_seconds=0.05) as server:
        assert (server.name, list(server.servables.served)) == ("movies", [1])
        publish(version, base)
        until = time.monotonic() + 20
        while list(server.servables.served) != [2] and time.monotonic() < until:
            time.sleep(0.05)
        assert list(server.servables.served) == [2]
