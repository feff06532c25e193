"""The model card lists the columns that look personal, with what happens to them."""

import json

import pyarrow as pa
import pytest

import tfrec_meta as tm
from tfrec_meta.export import signatures as names
from tfrec_meta.export.model_card import default_card
from tfrec_meta.export.personal_data import PersonalUse, used_columns
from tfrec_meta.models import FAMILIES

USERS = [f"u{k}@mail.example" for k in range(6)]


@pytest.fixture(scope="module")
def shop():
    users = pa.table(
        {
            "user_id": USERS,
            "phone": ["+44 20 7946 0958", "+44 20 7946 0959"] * 3,
            "city": ["Bonn", "Rome"] * 3,
        }
    )
    items = pa.table({"item_id": ["a", "b"], "seller|email": ["shop@mail.example"] * 2})
    return tm.Interactions.from_arrays(
        USERS * 2,
        ["a"] * 6 + ["b"] * 6,
        further={"ip": ["203.0.113.7"] * 12},
        users=users,
        items=items,
    )


def model_of(shop, **config):
    """A two-tower model that is not trained: what it reads is known from its config."""
    spec = tm.FeatureSpec(user=(tm.Category("phone"), tm.Category("city"))).fit(shop)
    model = FAMILIES["two_tower"](tm.TwoTowerConfig(embedding_dim=4, **config), spec)
    model.prepare(shop)
    return model


def uses(model):
    return {used.column.full_name: used.use for used in used_columns(model)}


def test_a_model_that_reads_nothing_of_users_leaves_their_columns_out(shop, tmp_path):
    model = tm.train(shop, "popularity", progress=False)
    assert uses(model) == {
        "user_id": PersonalUse.LEFT_OUT,
        "events.ip": PersonalUse.LEFT_OUT,
        "users.phone": PersonalUse.LEFT_OUT,
        "items.seller|email": PersonalUse.CATALOGUE,
    }
    assert [feature.name for feature in model.spec.user] == ["city"]
    model.save(tmp_path / "model")
    assert used_columns(tm.load(tmp_path / "model")) == used_columns(model)
    record = json.loads((tmp_path / "model" / "model.json").read_text())
    assert "mail.example" not in str(record)


def test_the_card_has_names_and_no_values(shop, tmp_path):
    model = tm.train(shop, "popularity", progress=False)
    card = (tm.export(model, tmp_path / "m") / names.EXTRA_ASSETS / names.MODEL_CARD).read_text()
    assert "- Users known by id: none; scores do not depend on the id\n" in card
    assert "| column | looks like | what happens to it |\n|---|---|---|\n" in card
    phone = (
        "| `users.phone` | phone numbers, by its values | left out of the model and its exports |"
    )
    email = "| `items.seller\\|email` | e-mail addresses, by its values | kept in the catalogue"
    assert phone in card
    assert email in card
    assert "mail.example" not in card
    assert "7946" not in card


def test_declared_features_and_embedded_ids_are_listed_as_such(shop):
    model = model_of(shop, user_id=True, user_features=True)
    assert uses(model)["user_id"] is PersonalUse.IDS
    assert uses(model)["users.phone"] is PersonalUse.FEATURE
    model = model_of(shop, user_features=True)
    assert uses(model)["user_id"] is PersonalUse.HASHES
    card = default_card("m", model, tm.ExportConfig())
    assert "- Users known by id: 6, by a hash of the id\n" in card
    assert uses(model_of(shop))["users.phone"] is PersonalUse.LEFT_OUT


def test_a_card_without_such_columns_has_no_table():
    model = tm.train(tm.synthetic(20, 10, 100), "popularity", progress=False)
    assert "personal" not in default_card("m", model, tm.ExportConfig())
