"""The proposed columns of users, items, times, values and event types."""

import pytest

from tfrec_meta.data.survey.columns import Column
from tfrec_meta.data.survey.mapping import propose


def text(name, distinct=50, values=()):
    return Column(name, "text", 1000, 0, distinct, tuple(values))


def whole(name, distinct=50, unit="", formats=()):
    return Column(name, "whole number", 1000, 0, distinct, (), unit, formats)


def time(name):
    return Column(name, "time", 1000, 0, 900)


def mapping(*columns, **given):
    return {key: one.column for key, one in propose(columns, given).items() if one.column}


@pytest.mark.parametrize(
    ("columns", "expected"),
    [
        (
            [whole("userId"), whole("movieId"), whole("rating", 5), whole("timestamp", unit="s")],
            {"user_id": "userId", "item_id": "movieId", "time": "timestamp", "value": "rating"},
        ),
        (
            [
                whole("InvoiceNo"),
                text("StockCode"),
                text("Description"),
                whole("Quantity"),
                time("InvoiceDate"),
                whole("UnitPrice"),
                whole("CustomerID"),
                text("Country"),
            ],
            {
                "user_id": "CustomerID",
                "item_id": "StockCode",
                "time": "InvoiceDate",
                "value": "Quantity",
            },
        ),
        (
            [
                whole("timestamp", unit="ms"),
                whole("visitorid"),
                text("event", 3, ("view", "addtocart", "transaction")),
                whole("itemid"),
                whole("transactionid"),
            ],
            {
                "user_id": "visitorid",
                "item_id": "itemid",
                "time": "timestamp",
                "event_type": "event",
            },
        ),
        (
            [text("reviewerID"), text("asin"), whole("overall", 5), whole("unixReviewTime")],
            {
                "user_id": "reviewerID",
                "item_id": "asin",
                "time": "unixReviewTime",
                "value": "overall",
            },
        ),
        (
            [text("Kunde"), text("Artikel-Nr"), time("Datum")],
            {"user_id": "Kunde", "item_id": "Artikel-Nr", "time": "Datum"},
        ),
        (
            [text("shop_customer_no"), text("web_product_key")],
            {"user_id": "shop_customer_no", "item_id": "web_product_key"},
        ),
    ],
)
def test_common_spellings_are_recognized(columns, expected):
    assert mapping(*columns) == expected


def test_two_columns_that_fit_as_well_make_it_unsure():
    found = propose([text("user_id"), text("artist_id"), text("track_id")], {})
    assert found["user_id"].sure
    assert found["item_id"].column == "artist_id"
    assert not found["item_id"].sure
    assert found["item_id"].alternatives == ("track_id",)


def test_without_usual_names_values_decide_and_the_alternatives_are_named():
    columns = [text("alpha", 80), text("beta", 60), text("gamma", 40), text("row", 1000)]
    found = propose(columns, {})
    assert (found["user_id"].column, found["item_id"].column) == ("alpha", "beta")
    assert (found["user_id"].by, found["user_id"].sure) == ("values", False)
    assert found["user_id"].alternatives == ("beta", "gamma")
    assert found["item_id"].alternatives == ("alpha", "gamma")


def test_a_session_stands_for_a_user_only_if_there_is_none():
    assert mapping(text("session_id"), text("item_id"))["user_id"] == "session_id"
    assert not propose([text("session_id"), text("item_id")], {})["user_id"].sure
    assert mapping(text("session_id"), text("user_id"), text("item_id"))["user_id"] == "user_id"


def test_event_types_are_recognized_by_their_values():
    columns = [text("user"), text("item"), text("what", 2, ("click", "buy"))]
    found = propose(columns, {})["event_type"]
    assert (found.column, found.by, found.sure) == ("what", "values", False)
    many = [text("user"), text("item"), text("type", 400)]
    assert propose(many, {})["event_type"].column is None


def test_a_date_of_something_else_is_not_taken_without_a_warning():
    birth = propose([text("user"), text("item"), time("birth_date")], {})["time"]
    assert (birth.column, birth.sure) == ("birth_date", False)
    both = propose([time("release_date"), time("event_date")], {})["time"]
    assert (both.column, both.sure) == ("event_date", True)


def test_two_possible_formats_of_times_make_it_unsure():
    column = Column("day", "time", 1000, 0, 12, formats=("%d/%m/%Y", "%m/%d/%Y"))
    assert not propose([column], {})["time"].sure


def test_given_columns_are_taken_and_used_once():
    found = propose([text("user_id"), text("customer"), text("sku")], {"item_id": "user_id"})
    assert (found["item_id"].column, found["item_id"].by) == ("user_id", "given")
    assert found["user_id"].column == "customer"


def test_text_is_no_value_and_no_column_is_used_twice():
    assert mapping(text("user"), text("item"), text("rating")) == {
        "user_id": "user",
        "item_id": "item",
    }


@pytest.mark.parametrize(
    ("user", "item"),
    [
        ("Kundennummer", "Artikelnummer"),
        ("customer_number", "product_number"),
        ("cust_no", "item_no"),
        ("KundenNr", "ArtikelNr"),
        ("id_cliente", "id_producto"),
        ("usernumber", "productcode"),
    ],
)
def test_names_with_a_word_for_a_number_are_sure(user, item):
    found = propose([text(item), text(user)], {})
    assert (found["user_id"].column, found["item_id"].column) == (user, item)
    assert found["user_id"].sure
    assert found["item_id"].sure


def test_a_column_that_looks_personal_is_no_item():
    columns = [text("alpha", 60), text("E-Mail", 80), text("beta", 70)]
    found = propose(columns, {}, ["E-Mail"])
    assert (found["user_id"].column, found["item_id"].column) == ("E-Mail", "beta")
    assert found["item_id"].alternatives == ("alpha",)
    known = propose([text("user"), *columns[1:2]], {}, ["E-Mail"])
    assert known["item_id"].column is None
    named = propose([text("user"), text("news"), text("item")], {}, ["item"])
    assert named["item_id"].column == "news"


@pytest.mark.parametrize("name", ["Ereignis", "Aktion", "event_type", "tipo"])
@pytest.mark.parametrize(
    "values",
    [
        ("Ansicht", "Warenkorb", "Kauf"),
        ("vue", "ajout au panier", "achat"),
        ("vista", "carrito", "compra"),
    ],
)
def test_event_types_are_recognized_in_other_languages(name, values):
    found = propose([text("user"), text("item"), text(name, 3, values)], {})["event_type"]
    assert (found.column, found.by, found.sure) == (name, "name", True)


def test_unknown_values_of_a_column_named_as_event_types_are_unsure():
    found = propose([text("user"), text("item"), text("Aktion", 3, ("x", "y", "z"))], {})
    assert (found["event_type"].column, found["event_type"].sure) == ("Aktion", False)
