"""Exports of earlier versions of the package can be served."""

import zipfile
from pathlib import Path

import pytest

from tfrec_meta.serving import Catalogue, Client, InvalidRequest, LocalServer

EXPORTS = Path(__file__).with_name("exports")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A version folder that tfrec-meta 0.1 exported: popularity, 30 items, `category` filter."""
    base = tmp_path_factory.mktemp("exports") / "popularity"
    with zipfile.ZipFile(EXPORTS / "version_0_1.zip") as archive:
        archive.extractall(base)
    return base / "1"


@pytest.fixture(scope="module")
def client(folder):
    with LocalServer(folder.parent) as server, Client(server.address, "popularity") as client:
        yield client


def test_an_export_of_0_1_is_served(client):
    best = client.recommend("u1", ["i1"], k=3)
    assert len(best) == 3
    assert [item.score for item in best] == sorted((item.score for item in best), reverse=True)
    assert "i1" not in [item.item_id for item in best]
    items = [item.item_id for item in best]
    assert [item.item_id for item in client.rank("u1", items[::-1])] == items
    assert client.rank_examples([{"user_id": "u1", "item_id": items[0]}]).shape == (1,)


def test_an_export_of_0_1_has_a_catalogue(folder, client):
    catalogue = Catalogue.read(folder)
    assert len(catalogue) == 30
    (best,) = client.recommend("u1", k=1)
    assert catalogue.title(best.item_id) != best.item_id


def test_a_signature_that_an_export_of_0_1_lacks_is_named(client):
    with pytest.raises(InvalidRequest, match=r"no signature 'adapt'.*export a model that has it"):
        client.adapt([["i1"]])


def test_a_saved_model_of_another_program_is_served_without_its_catalogue(recorded_base):
    with LocalServer(recorded_base) as server, Client(server.address, "toy") as client:
        assert client.metadata().version == 2
    with pytest.raises(FileNotFoundError, match=r"no catalogue.*export the model again"):
        Catalogue.read(recorded_base)
