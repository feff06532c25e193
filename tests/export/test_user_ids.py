"""An export holds the ids of users only if the model has an embedding of each user."""

import dataclasses

import numpy as np
import pyarrow as pa
import pytest

import tfrec_meta as tm
from tests.export.test_served import expected, padded
from tfrec_meta.export import signatures as names
from tfrec_meta.models import FAMILIES

USERS = [f"someone{k}@mail.example" for k in range(12)]
RECIPE = tm.TrainingConfig(epochs=1, batch_size=32)
CONFIG = tm.ExportConfig(history_width=6, k=3, max_k=4, exclude_width=2, candidates_width=4)


@pytest.fixture(scope="module")
def mails():
    """Twelve users with e-mail addresses as ids, and an age and a mail column in their table."""
    rng = np.random.default_rng(0)
    users = pa.table({"user_id": USERS, "age": np.arange(12.0), "mail": USERS})
    kinds = ["tea", "milk", "tea"] * 3
    items = pa.table({"item_id": [f"i{k}" for k in range(9)], "kind": kinds})
    return tm.Interactions.from_arrays(
        [USERS[k] for k in rng.integers(0, 12, 200)],
        [f"i{k}" for k in rng.integers(0, 9, 200)],
        np.arange(200) + 10**9,
        rng.integers(1, 6, 200).astype(float),
        users=users,
        items=items,
    )


def trained(family, data, **config):
    strategy = tm.Strategy(family, training=RECIPE, history_length=6)
    if config:
        model = dataclasses.replace(strategy.model, **config)
        strategy = dataclasses.replace(strategy, model=model)
    return tm.train(data, strategy, progress=False)


def files_with_an_id(folder):
    found = [path for path in folder.rglob("*") if path.is_file()]
    assert found
    return {
        path.relative_to(folder).as_posix()
        for path in found
        if any(user.encode() in path.read_bytes() for user in USERS)
    }


def test_no_file_of_an_export_has_a_user_id(any_family, mails, tmp_path):
    model = trained(any_family, mails)
    assert files_with_an_id(tm.export(model, tmp_path / "m", CONFIG)) == set()


@pytest.mark.slow
def test_only_vocabularies_have_the_ids_that_a_model_embeds(mails, tmp_path):
    model = trained("two_tower", mails, user_id=True)
    found = files_with_an_id(tm.export(model, tmp_path / "m", CONFIG))
    assert found == {"assets/user_id.txt", "assets.extra/feature_spec/user_id.txt"}


@pytest.mark.slow
def test_known_features_of_a_user_are_found_by_the_hash_of_the_id(mails, serve, tmp_path):
    model = trained("two_tower", mails, user_features=True)
    folder = tm.export(model, tmp_path / "m", CONFIG)
    assert files_with_an_id(folder) == set()
    served = serve("m", folder)
    for user in (USERS[0], USERS[7], "nobody", ""):
        answer = served.predict(names.RECOMMEND, user_id=[user], history=padded([["i1"]], 6))
        ids, scores = expected(model, user, ["i1"], 3)
        assert [i.decode() for i in answer["item_id"][0]] == ids
        np.testing.assert_allclose(answer["score"][0], scores, rtol=1e-4, atol=1e-5)


def test_the_families_of_the_registry_say_what_they_read_from_an_id(mails):
    model = trained("ensemble", mails)
    assert model.user_ids == max(member.user_ids for member in model.members)
    assert set(FAMILIES) >= {"two_tower", "ranker"}
