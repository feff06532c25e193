import hashlib
import hmac

import pyarrow as pa
import pytest

from tfrec_meta.data import Interactions, pseudonym, pseudonymise

KEY = "0123456789abcdef"


@pytest.fixture
def data():
    return Interactions.from_arrays(
        ["ann", "bob", "ann"],
        ["x", "y", "z"],
        [1, 2, 3],
        users=pa.table({"age": [30, 40, 50], "user_id": ["bob", "ann", "eve"]}),
        items=pa.table({"item_id": ["x", "y", "z"]}),
    )


def test_ids_become_hmac_sha_256_in_events_and_users(data, monkeypatch):
    monkeypatch.setenv("TFREC_META_KEY", KEY)
    ann, bob, eve = (
        hmac.new(KEY.encode(), name.encode(), hashlib.sha256).hexdigest()
        for name in ("ann", "bob", "eve")
    )
    hidden = pseudonymise(data)
    assert hidden.events["user_id"].to_pylist() == [ann, bob, ann]
    assert hidden.users["user_id"].to_pylist() == [bob, ann, eve]
    assert hidden.users["age"].to_pylist() == [30, 40, 50]
    assert hidden.events.drop_columns("user_id").equals(data.events.drop_columns("user_id"))
    assert hidden.items.equals(data.items)
    assert pseudonym("ann", KEY.encode()) == ann
    assert data.user_ids.tolist() == ["ann", "bob"]


def test_another_key_gives_other_names(data, monkeypatch):
    monkeypatch.setenv("ONE", KEY)
    monkeypatch.setenv("OTHER", KEY[::-1])
    one, other = pseudonymise(data, "ONE"), pseudonymise(data, "OTHER")
    assert not set(one.user_ids) & set(other.user_ids)


@pytest.mark.parametrize(("key", "message"), [(None, "is not set"), ("short", "only 5 bytes")])
def test_without_a_good_key_nothing_happens(data, monkeypatch, key, message):
    monkeypatch.delenv("TFREC_META_KEY", raising=False)
    if key:
        monkeypatch.setenv("TFREC_META_KEY", key)
    with pytest.raises(ValueError, match=message) as error:
        pseudonymise(data)
    assert key is None or key not in str(error.value)
