"""Versions on object stores: data first, the manifest last, and readers go by the manifest."""

import os
import threading

import pytest

import tfrec_meta as tm
from tests.store_servers import BROKEN, DENIED
from tfrec_meta.export import published
from tfrec_meta.export.published import fetch_version, publish, published_versions
from tfrec_meta.export.signatures import MANIFEST
from tfrec_meta.io.damage import DamagedFile
from tfrec_meta.io.manifests import write_manifest
from tfrec_meta.io.stores import RemotePath, StoreError, StoreUnavailable


@pytest.fixture
def version(tmp_path):
    """A folder with the files of a version."""
    folder = tmp_path / "version"
    for name in ("saved_model.pb", "variables/variables.index", "assets.extra/model_card.md"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(f"content of {name}")
    write_manifest(folder, MANIFEST)
    return folder


def contents(folder):
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


@pytest.mark.parametrize("kind", ["s3", "gs"])
def test_a_published_version_is_fetched_as_it_was(kind, request, version, tmp_path):
    base = RemotePath(request.getfixturevalue(kind)) / "models/shop"
    assert published_versions(base) == []
    assert publish(version, base).name == "1"
    assert publish(version, base).name == "2"
    assert publish(version, base, version=7).name == "7"
    assert published_versions(base) == [7, 2, 1]
    assert set((base / "7").files()) == set(contents(version))  # and no claim
    fetch_version(base, 7, tmp_path / "cache" / "7")
    assert contents(tmp_path / "cache" / "7") == contents(version)


def test_the_manifest_is_written_last_and_the_model_before_it(s3, s3_proxy, version):
    publish(version, RemotePath(f"{s3}/shop"))
    done = [path for method, path in s3_proxy.seen if method == "POST" and "?uploadId" in path]
    names = [path.partition("?")[0].removeprefix("/shop/shop/1/") for path in done]
    assert names[0].startswith(".publishing-")
    assert names[1:3] == ["assets.extra/model_card.md", "variables/variables.index"]
    assert names[3:] == ["saved_model.pb", MANIFEST]


def test_a_publication_that_fails_in_the_middle_is_not_there(s3, s3_proxy, version):
    base = RemotePath(f"{s3}/shop")
    publish(version, base)
    s3_proxy.rule = lambda method, path: BROKEN if "saved_model" in path else None
    with pytest.raises(StoreUnavailable, match=r"saved_model\.pb: the store did not answer"):
        publish(version, base)
    assert published_versions(base) == [1]
    s3_proxy.rule = lambda method, path: None
    # The number is taken by what the store has of the version; that is removed after a day.
    assert publish(version, base).name == "3"
    assert published_versions(base) == [3, 1]


def test_a_version_that_failed_can_be_published_again_under_its_number(s3, s3_proxy, version):
    base = RemotePath(f"{s3}/shop")
    s3_proxy.rule = lambda method, path: DENIED if "saved_model" in path else None
    with pytest.raises(StoreError, match="refused the credentials"):
        publish(version, base, version=7)
    assert not any("model_card" in name for name in base.files())  # was removed
    s3_proxy.rule = lambda method, path: None
    assert publish(version, base, version=7).name == "7"
    assert published_versions(base) == [7]


def test_left_overs_of_stopped_writers_are_removed_after_a_day(s3, version, monkeypatch, caplog):
    base = RemotePath(f"{s3}/shop")
    (base / "4/.publishing-0123456789abcdef").write(b"")
    (base / "4/variables/x").write(b"half")
    publish(version, base)
    assert "4/variables/x" in base.files()  # may be in work
    monkeypatch.setattr(published, "_LEFT_OVER", published.datetime.timedelta(0))
    publish(version, base)
    assert not any(name.startswith("4/") for name in base.files())
    assert published_versions(base) == [6, 5]
    assert f"removed {base}/4" in caplog.text


def test_versions_of_other_software_are_neither_removed_nor_changed(s3, version, monkeypatch):
    base = RemotePath(f"{s3}/shop")
    (base / "4/saved_model.pb").write(b"of other code")
    monkeypatch.setattr(published, "_LEFT_OVER", published.datetime.timedelta(0))
    assert publish(version, base).name == "5"
    with pytest.raises(FileExistsError, match="shop/4 has files already"):
        publish(version, base, version=4)
    assert list((base / "4").files()) == ["saved_model.pb"]
    assert (base / "4/saved_model.pb").read() == b"of other code"


def test_a_version_that_another_process_publishes_is_refused(s3, version):
    base = RemotePath(f"{s3}/shop")
    (base / "7/.publishing-0123456789abcdef").write(b"")
    with pytest.raises(FileExistsError, match="shop/7 has files already: another process"):
        publish(version, base, version=7)
    assert list(base.files()) == ["7/.publishing-0123456789abcdef"]


def test_a_version_that_is_up_stays_when_the_process_is_stopped(s3, version, monkeypatch, caplog):
    class Stopped(published.Progress):
        def __exit__(self, *error):
            super().__exit__(*error)
            raise KeyboardInterrupt

    base = RemotePath(f"{s3}/shop")
    monkeypatch.setattr(published, "Progress", Stopped)
    with pytest.raises(KeyboardInterrupt):
        publish(version, base)
    assert published_versions(base) == [1]
    assert "shop/1 is published, though" in caplog.text


def test_a_claim_that_cannot_be_removed_is_logged(s3, s3_proxy, version, caplog):
    s3_proxy.rule = lambda method, path: DENIED if method == "DELETE" else None
    assert publish(version, RemotePath(f"{s3}/shop")).name == "1"
    assert "shop/1 is published, but .publishing-" in caplog.text


def test_processes_that_publish_at_the_same_time_get_different_versions(s3, version):
    base, found = RemotePath(f"{s3}/shop"), []
    threads = [
        threading.Thread(target=lambda: found.append(publish(version, base).name)) for _ in range(3)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(found)) == 3
    assert {str(number) for number in published_versions(base)} == set(found)


def test_a_published_version_is_never_changed(s3, version):
    base = RemotePath(f"{s3}/shop")
    publish(version, base, version=3)
    with pytest.raises(FileExistsError, match=r"shop/3 exists already, .* never changed"):
        publish(version, base, version=3)


def test_a_damaged_folder_is_not_published(s3, version):
    base = RemotePath(f"{s3}/shop")
    (version / "saved_model.pb").write_text("cut")
    with pytest.raises(DamagedFile, match=r"saved_model\.pb"):
        publish(version, base)
    (version / MANIFEST).unlink()
    with pytest.raises(DamagedFile, match=r"manifest\.json is damaged: it is missing"):
        publish(version, base)
    assert base.files() == {}


@pytest.mark.parametrize("fault", ["changed", "removed", "cut manifest", "outside"])
def test_a_version_that_differs_from_its_manifest_is_not_fetched(s3, version, tmp_path, fault):
    base = RemotePath(f"{s3}/shop")
    folder = publish(version, base)
    if fault == "changed":
        (folder / "saved_model.pb").write(b"content of saved_model.PB")
    elif fault == "removed":
        (folder / "saved_model.pb").remove()
    elif fault == "cut manifest":
        (folder / MANIFEST).write((folder / MANIFEST).read()[:50])
    else:
        text = (folder / MANIFEST).read().replace(b"saved_model.pb", b"../../../saved_model.pb")
        (folder / MANIFEST).write(text)
    with pytest.raises(DamagedFile, match="Export the model again"):
        fetch_version(base, 1, tmp_path / "cache" / "1")
    assert os.listdir(tmp_path) == ["version"] or os.listdir(tmp_path / "cache") == []


def test_export_publishes_on_a_store(s3, model_of, tmp_path):
    model, base = model_of("popularity"), f"{s3}/models/shop"
    folder = tm.export(model, base)
    assert str(folder) == f"{base}/1"
    assert "saved_model.pb" in folder.files()
    with pytest.raises(FileExistsError, match="never changed"):
        tm.export(model, base, version=1)
    with pytest.raises(StoreError, match="there is no bucket 'shop-2'"):
        tm.export(model, f"{s3}-2/models/shop")
