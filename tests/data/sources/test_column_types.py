"""Declared types of columns, and what is recognized without a declaration."""

import pyarrow as pa
import pytest

from tfrec_meta.data import read_interactions


@pytest.fixture
def files(tmp_path):
    (tmp_path / "e.csv").write_text("user_id,item_id,page\na,x,1\nb,y,2\n")
    (tmp_path / "i.csv").write_text(
        "item_id,zip,price,since\nx,02139,9.5,2024-01-01\ny,10115,n/a,1970-01-02T00:00:00Z\n"
    )
    return tmp_path


def test_declared_types_hold(files):
    types = {"zip": "text", "price": "number", "since": "time", "page": "text"}
    data = read_interactions(files / "e.csv", {"page": "page"}, items=files / "i.csv", types=types)
    assert data.items["zip"].to_pylist() == ["02139", "10115"]
    assert data.items["price"].to_pylist() == [9.5, None]
    assert data.items["since"].to_pylist() == [1704067200, 86400]
    assert data.events["page"].to_pylist() == ["1", "2"]


def test_a_cell_of_another_type_than_declared_is_named(files):
    with pytest.raises(ValueError, match=r"column `since`, row 1: '2024-01-01' is not a number"):
        read_interactions(files / "e.csv", items=files / "i.csv", types={"since": "number"})


def test_text_among_numbers_is_said(tmp_path, files, caplog):
    (tmp_path / "n.csv").write_text("item_id,price\nx,1\ny,2\nz,—\n")
    data = read_interactions(files / "e.csv", items=tmp_path / "n.csv")
    assert data.items["price"].type == pa.string()
    assert "column `price`: 2 of 3 cells are numbers, but row 3 is '—'" in caplog.text
    data = read_interactions(files / "e.csv", items=tmp_path / "n.csv", types={"price": "number"})
    assert data.items["price"].to_pylist() == [1, 2, None]


def test_decimals_of_attributes(tmp_path, files):
    (tmp_path / "n.csv").write_text("item_id;price\nx;1,5\ny;2\n")
    (tmp_path / "f.csv").write_text("user_id;item_id\na;x\n")
    options = {"delimiter": ";", "decimal": ","}
    data = read_interactions(tmp_path / "f.csv", items=tmp_path / "n.csv", **options)
    assert data.items["price"].to_pylist() == [1.5, 2.0]


@pytest.mark.parametrize("option", [{"lists": {"genre": "|"}}, {"types": {"genre": "text"}}])
def test_options_for_columns_that_are_not_read_are_an_error(files, option):
    (name,) = option
    with pytest.raises(ValueError, match=f"`{name}` names the column `genre`, but .*item_id"):
        read_interactions(files / "e.csv", items=files / "i.csv", **option)


def test_codes_with_leading_zeros_stay_text_without_a_declaration(files):
    data = read_interactions(files / "e.csv", items=files / "i.csv")
    assert data.items["zip"].to_pylist() == ["02139", "10115"]
