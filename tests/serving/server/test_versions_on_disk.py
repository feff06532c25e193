"""Versions that are being copied, damaged or exported without a manifest."""

import shutil
import time

import pytest

import tfrec_meta as tm
from tfrec_meta.export.signatures import MANIFEST
from tfrec_meta.serving import Client, LocalServer, ServerStartError
from tfrec_meta.serving.server import servables as servables_module


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """A base folder with one exported version; tests copy it."""
    data = tm.synthetic(users=30, items=20, interactions=300, seed=1)
    base = tmp_path_factory.mktemp("exported") / "shop"
    config = tm.ExportConfig(history_width=10, max_k=5, k=5)
    tm.export(tm.train(data, "popularity", progress=False), base, config)
    return base


@pytest.fixture
def base(exported, tmp_path):
    shutil.copytree(exported, tmp_path / "shop")
    shutil.copytree(exported / "1", tmp_path / "shop" / "2")
    return tmp_path / "shop"


def test_each_file_of_a_version_is_checked(base):
    files = [path for path in (base / "2").rglob("*") if path.is_file()]
    assert len(files) > 6
    with LocalServer(base, poll_seconds=0) as server, Client(server.address, "shop") as client:
        assert client.metadata().version == 2
        for path in files:
            content = path.read_bytes()
            name = path.relative_to(base / "2").as_posix()
            changed = content[:-1] + bytes([content[-1] ^ 1]) if content else b"x"
            for damaged in {b"", content[: len(content) // 2], changed} - {content}:
                shutil.rmtree(base / "3", ignore_errors=True)
                shutil.copytree(base / "2", base / "3")
                (base / "3" / name).write_bytes(damaged)
                server.servables.refresh()
                assert list(server.servables.served) == [2], name
                status = next(each for each in client.status() if each.version == 3)
                assert status.state == "END"
                assert name in status.error
                assert str(base) not in status.error


def test_a_version_is_served_once_its_copy_is_complete(base):
    vocabulary = next((base / "2" / "assets").glob("item_id*"))
    content = vocabulary.read_bytes()
    vocabulary.write_bytes(content[:10])
    with (
        LocalServer(base, poll_seconds=0.05) as server,
        Client(server.address, "shop") as client,
    ):
        assert client.metadata().version == 1
        reason = {each.version: each.error for each in client.status()}[2]
        assert f"it has 10 of {len(content)} bytes" in reason
        vocabulary.write_bytes(content)
        wait_for(lambda: client.metadata().version == 2)


def test_new_versions_are_served_without_a_restart(base):
    with (
        LocalServer(base, poll_seconds=0.05) as server,
        Client(server.address, "shop") as client,
    ):
        shutil.copytree(base / "2", base / "unpacked")
        (base / "unpacked").rename(base / "3")
        wait_for(lambda: client.metadata().version == 3)


def test_an_unchanged_version_is_hashed_and_loaded_only_once(base, monkeypatch):
    loads = []

    class Counted(servables_module.Servable):
        def __init__(self, folder, *arguments):
            loads.append(folder.name)
            super().__init__(folder, *arguments)

    monkeypatch.setattr(servables_module, "Servable", Counted)
    (base / "2" / "saved_model.pb").write_bytes(b"cut")
    with LocalServer(base, poll_seconds=0) as server:
        for _ in range(3):
            server.servables.refresh()
        assert loads == ["2", "1"]
        (base / "2" / "saved_model.pb").write_bytes((base / "1" / "saved_model.pb").read_bytes())
        server.servables.refresh()
        assert loads == ["2", "1", "2"]
        assert list(server.servables.served) == [2]


def test_a_version_without_its_manifest_waits_for_the_rest_of_its_copy(base, monkeypatch):
    (base / "2" / MANIFEST).unlink()
    with LocalServer(base, poll_seconds=0) as server, Client(server.address, "shop") as client:
        assert client.metadata().version == 1
        assert "no assets.extra/manifest.json" in {s.version: s.error for s in client.status()}[2]
        monkeypatch.setattr(servables_module, "_QUIET_SECONDS", 0.0)
        server.servables.refresh()  # nothing has changed for long enough
        assert client.metadata().version == 2


def test_a_version_without_its_manifest_is_served_if_there_is_no_other(base):
    shutil.rmtree(base / "1")
    (base / "2" / MANIFEST).unlink()
    with LocalServer(base) as server, Client(server.address, "shop") as client:
        assert client.metadata().version == 2


def test_a_damaged_version_alone_is_not_served(base):
    shutil.rmtree(base / "1")
    (base / "2" / MANIFEST).write_bytes(b"")
    with pytest.raises(ServerStartError, match=r"2: assets\.extra/manifest\.json is damaged"):
        LocalServer(base).start()


def test_a_negative_time_between_polls_is_refused(base):
    with pytest.raises(ServerStartError, match=r"`poll_seconds`=-1; use 0"):
        LocalServer(base, poll_seconds=-1)


def wait_for(condition, seconds=30):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)
