"""Titles and attributes of items."""

import shutil

import pyarrow as pa
import pytest

from tfrec_meta.serving import Catalogue


def test_reads_titles_from_the_version_folder(movies_base):
    catalogue = Catalogue.read(movies_base / "3")
    assert catalogue.title("m2") == "Film 2"
    assert catalogue.attributes("m2") == {"item_id": "m2", "title": "Film 2", "year": 1992}
    assert len(catalogue) == 6
    assert list(catalogue)[:2] == ["m1", "m2"]
    assert "m6" in catalogue
    assert "zzz" not in catalogue


def test_shows_an_item_without_a_title_by_its_id(movies_base):
    catalogue = Catalogue.read(movies_base)  # the newest version of a base folder
    assert catalogue.title("m6") == "m6"
    assert catalogue.title("zzz") == "zzz"
    assert Catalogue(pa.table({"item_id": ["a"]})).title("a") == "a"


def test_skips_an_incomplete_newest_version(movies_base, tmp_path):
    shutil.copytree(movies_base / "3", tmp_path / "3")
    (tmp_path / "4").mkdir()
    assert Catalogue.read(tmp_path).title("m2") == "Film 2"


def test_skips_a_version_outside_the_base_folder(movies_base, tmp_path):
    base = tmp_path / "base"
    shutil.copytree(movies_base / "3", base / "3")
    (tmp_path / "4").mkdir()
    (tmp_path / "4" / "saved_model.pb").touch()
    (base / "4").symlink_to(tmp_path / "4")
    assert Catalogue.read(base).title("m2") == "Film 2"


def test_a_missing_or_damaged_catalogue_raises_with_the_way_out(tmp_path):
    with pytest.raises(FileNotFoundError, match="holds no version"):
        Catalogue.read(tmp_path)
    with pytest.raises(FileNotFoundError, match="not a folder"):
        Catalogue.read(tmp_path / "absent")
    extra = tmp_path / "1" / "assets.extra"
    extra.mkdir(parents=True)
    (tmp_path / "1" / "saved_model.pb").touch()
    with pytest.raises(FileNotFoundError, match="exported version"):
        Catalogue.read(tmp_path / "1")
    (extra / "catalogue.parquet").write_bytes(b"PAR1 nonsense")
    with pytest.raises(ValueError, match="Export the model again"):
        Catalogue.read(tmp_path / "1")
    with pytest.raises(ValueError, match="no 'item_id'"):
        Catalogue(pa.table({"id": ["a"]}))
