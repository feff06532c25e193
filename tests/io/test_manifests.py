"""Manifests: every file that is cut, emptied, changed or missing is named."""

import os

import pytest

from tfrec_meta.io.damage import DamagedFile
from tfrec_meta.io.manifests import check_manifest, read_manifest, stamp, write_manifest


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "below").mkdir()
    (tmp_path / "one").write_bytes(b"abc")
    (tmp_path / "below" / "two").write_bytes(b"")
    write_manifest(tmp_path, "below/manifest.json")
    return tmp_path


def test_a_manifest_has_size_and_sha_256_of_all_other_files(folder):
    files = read_manifest(folder / "below" / "manifest.json")
    # From the command `printf abc | sha256sum`.
    abc = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    empty = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    assert files == {"one": (3, abc), "below/two": (0, empty)}
    assert check_manifest(folder, "below/manifest.json")


def test_other_files_do_not_matter_and_a_folder_without_a_manifest_is_not_checked(folder):
    (folder / "one.tmp").write_bytes(b"copy")
    assert check_manifest(folder, "below/manifest.json")
    assert not check_manifest(folder)


@pytest.mark.parametrize(
    "file, content, message",
    [
        ("one", b"ab", r"one is damaged: it has 2 of 3 bytes"),
        ("one", b"", r"one is damaged: it has 0 of 3 bytes"),
        ("one", b"abd", r"one is damaged: its content is not that of below/manifest\.json"),
        ("one", None, r"one is damaged: it is missing"),
        ("below/two", b"x", r"two is damaged: it has 1 of 0 bytes"),
        ("below/manifest.json", b"", r"manifest\.json is damaged: it is empty"),
        ("below/manifest.json", b'{"format": 1', r"manifest\.json is damaged: it is not JSON"),
        ("below/manifest.json", b'{"format": 1}', r"it has no 'files'"),
        ("below/manifest.json", b'{"format": 9, "files": {}}', r"its format is 9, not 1"),
        ("below/manifest.json", b'{"format": 1, "files": {"a": {}}}', r"a size or digest is miss"),
        (
            "below/manifest.json",
            b'{"format": 1, "files": {"../a": {"size": 1, "sha256": ""}}}',
            r"it names '\.\./a', outside of its folder",
        ),
    ],
)
def test_damage_is_named_with_the_way_out(folder, file, content, message):
    if content is None:
        (folder / file).unlink()
    else:
        (folder / file).write_bytes(content)
    with pytest.raises(DamagedFile, match=message + r".*Copy or export it again\."):
        check_manifest(folder, "below/manifest.json")


def test_a_stamp_changes_with_every_write(folder):
    before = stamp(folder)
    assert stamp(folder) == before
    status = os.stat(folder / "one")
    (folder / "one").unlink()
    (folder / "one").write_bytes(b"abd")
    os.utime(folder / "one", ns=(status.st_atime_ns, status.st_mtime_ns))
    (folder / "below" / "two").write_bytes(b"x")
    assert stamp(folder) != before
