import datetime

import pyarrow as pa
import pytest

from tfrec_meta.data import Interactions, personal_columns, pseudonymise, synthetic
from tfrec_meta.data.privacy.personal_columns import PersonalColumn, personal_column
from tfrec_meta.data.privacy.personal_data import PersonalData

PEOPLE = ["ann@mail.example", "bob@mail.example", "eve@mail.example"]


@pytest.fixture
def shop():
    users = pa.table(
        {
            "user_id": PEOPLE,
            "contact": [["ann@mail.example"], [], None],
            "phone": pa.array([4420794600, None, 4420794601], pa.float64()),  # as pandas writes it
            "name": pa.array(["Ann", "Bob", "Ann"]).dictionary_encode(),
            "dob": [datetime.date(1990, 1, 2)] * 3,
            "newsletter_email": ["yes", "no", "no"],
            "nickname": pa.array([None, None, None], pa.string()),
            "age": [30, 40, 50],
        }
    )
    items = pa.table(
        {
            "item_id": ["tea", "jam"],
            "title": ["Tea", "Jam"],
            "name": ["Earl Grey", "Plum"],
            "seller_email": ["shop@mail.example", "shop@mail.example"],
        }
    )
    return Interactions.from_arrays(
        PEOPLE,
        ["tea", "jam", "tea"],
        further={"ip": ["203.0.113.7"] * 3, "page": ["home", "search", "home"]},
        users=users,
        items=items,
    )


def test_lists_columns_of_all_tables_with_the_reason(shop):
    assert list(map(str, personal_columns(shop))) == [
        "user_id (e-mail addresses, by its values)",
        "events.ip (IP addresses, by its values)",
        "users.contact (e-mail addresses, by its values)",
        "users.phone (phone numbers, by its name)",
        "users.name (names of people, by its name)",
        "users.dob (birth dates, by its name)",
        "items.seller_email (e-mail addresses, by its values)",
    ]


def test_holds_no_value(shop):
    text = repr(personal_columns(shop))
    assert "mail.example" not in text
    assert "203.0" not in text


def test_pseudonyms_do_not_look_personal(shop, monkeypatch):
    monkeypatch.setenv("TFREC_META_KEY", "0123456789abcdef")
    assert "user_id" not in {found.column for found in personal_columns(pseudonymise(shop))}


def test_synthetic_data_has_none():
    assert personal_columns(synthetic(20, 10, 100)) == ()


def test_the_only_one_of_movielens_is_the_zip_code():
    users = pa.table(
        {
            "user_id": ["1", "2"],
            "age": [24, 53],
            "gender": ["M", "F"],
            "occupation": ["writer", "other"],
            "zip_code": ["85711", "94043"],
        }
    )
    items = pa.table({"item_id": ["1"], "title": ["Toy Story (1995)"], "genres": [["Comedy"]]})
    data = Interactions.from_arrays(["1"], ["1"], users=users, items=items)
    (found,) = personal_columns(data)
    assert str(found) == "users.zip_code (postal addresses, by its name)"


def test_samples_the_whole_column():
    late = pa.chunked_array([["login"] * 5000, ["ann@mail.example"] * 5000])
    assert personal_column("users", "contact", late).looks_like is PersonalData.EMAIL


@pytest.mark.parametrize("kind", [pa.null(), pa.bool_(), pa.binary(), pa.list_(pa.string())])
def test_takes_columns_without_any_text(kind):
    assert personal_column("users", "email", pa.chunked_array([[None, None]], kind)) is None
    assert personal_column("users", "email", pa.chunked_array([[]], kind)) is None


def test_a_record_of_a_column_is_read_back():
    column = PersonalColumn("users", "mail", PersonalData.EMAIL, "values")
    assert PersonalColumn.from_dict({**vars(column)}) == column
    with pytest.raises(ValueError, match="shoe sizes"):
        PersonalColumn.from_dict({**vars(column), "looks_like": "shoe sizes"})
