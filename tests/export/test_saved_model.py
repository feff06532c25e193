"""The files of an exported model, and its versions."""

import numpy as np
import pyarrow.parquet as pq
import pytest

import tfrec_meta as tm
from tfrec_meta.export import saved_model, versions
from tfrec_meta.export import signatures as names

# The vocabularies that a model of `conftest` does not read.
UNREAD = {
    "ials": ["context.device", "user.segment", "user_id"],
    "two_tower": [],
    "multi_task": [],
    "meta_ranker": ["context.device", "user_id"],
}


@pytest.mark.slow
def test_counts_versions_up_and_never_changes_one(model_of, tmp_path):
    model, base = model_of("popularity"), tmp_path / "m"
    assert tm.export(model, base).name == "1"
    assert tm.export(model, base, version=7).name == "7"
    (base / "not a version").mkdir()
    assert tm.export(model, base).name == "8"
    with pytest.raises(FileExistsError, match="never changed"):
        tm.export(model, base, version=7)
    with pytest.raises(ValueError, match="version"):
        tm.export(model, base, version=0)


@pytest.mark.parametrize("version", [0, -1, 1.0, 1.5, True, 2**63, 2**70, "1", "01", np.float64(2)])
def test_refuses_versions_that_are_no_positive_int64_numbers(model_of, tmp_path, version):
    with pytest.raises(ValueError, match=r"`version`=.*; use a whole number from 1 to 2"):
        tm.export(model_of("popularity"), tmp_path / "m", version=version)
    assert not (tmp_path / "m").exists()


def test_accepts_versions_of_numpy(model_of, tmp_path):
    assert tm.export(model_of("popularity"), tmp_path / "m", version=np.int64(5)).name == "5"


@pytest.mark.parametrize("base", ["", "  ", "/", "a\0b"])
def test_refuses_a_base_without_a_name(model_of, tmp_path, monkeypatch, base):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match=r"`base`=.* has no name for the model"):
        tm.export(model_of("popularity"), base)
    assert list(tmp_path.iterdir()) == []


def test_refuses_a_base_that_is_a_file(model_of, tmp_path):
    (tmp_path / "m").touch()
    with pytest.raises(ValueError, match="is a file"):
        tm.export(model_of("popularity"), tmp_path / "m")


def test_ignores_names_that_are_not_versions(tmp_path):
    for name in ("2", "²", "9.tmp", "0"):
        (tmp_path / name).mkdir()
    (tmp_path / "5").touch()
    assert versions.next_version(tmp_path) == 3


def test_a_failed_export_leaves_no_files(model_of, tmp_path, monkeypatch):
    def fail(*_):
        raise OSError("disk full")

    monkeypatch.setattr(saved_model, "write_warm_up_requests", fail)
    with pytest.raises(OSError, match="disk full"):
        tm.export(model_of("popularity"), tmp_path / "m")
    assert list((tmp_path / "m").iterdir()) == []


def test_the_catalogue_of_a_model_without_an_items_table_has_ids_only(tmp_path):
    data = tm.Interactions.from_arrays(["u", "v"], ["a", "b"])
    folder = tm.export(tm.train(data, "popularity"), tmp_path / "m")
    table = pq.read_table(folder / names.EXTRA_ASSETS / names.CATALOGUE)
    assert table.column_names == ["item_id"]


def test_the_catalogue_has_titles_in_the_order_of_the_scores(folder, model):
    table = pq.read_table(folder / names.EXTRA_ASSETS / names.CATALOGUE)
    rows = np.arange(1, model.spec.catalogue_size + 1)
    assert table["item_id"].to_pylist() == model.spec.items.decode(rows).tolist()
    own = model.items.to_pydict()
    titles = dict(zip(own["item_id"], own["title"], strict=True))
    assert table["title"].to_pylist() == [titles[item] for item in table["item_id"].to_pylist()]


def test_saves_the_feature_spec_of_the_model(folder, model):
    loaded = tm.FeatureSpec.load(folder / names.EXTRA_ASSETS / names.FEATURE_SPEC)
    assert loaded.declaration() == model.spec.declaration()
    unread = [key for key, tokens in loaded.vocabularies.items() if len(tokens) == 1]
    assert unread == UNREAD[model.family]
    for key in set(loaded.vocabularies) - set(unread):
        assert loaded.vocabularies[key] == model.spec.vocabularies[key]
