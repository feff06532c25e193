"""Pseudonyms of users in runs."""

import pytest

from tfrec_meta.workflows.runs import Run


def test_a_run_with_pseudonyms_holds_no_raw_id_and_finds_users_by_it(tmp_path, monkeypatch):
    log = tmp_path / "log.csv"
    rows = [f"u{u}@mail.example,i{(u + k) % 5},{k}" for u in range(8) for k in range(4)]
    log.write_text("user_id,item_id,time\n" + "\n".join(rows) + "\n")
    given = {
        "data": {"source": [str(log)], "pseudonyms": "SHOP_KEY"},
        "split": {"protocol": "user"},
        "strategy": {"family": "popularity"},
    }
    with pytest.raises(ValueError, match="SHOP_KEY is not set"):
        Run.begin(tmp_path / "run", given)
    monkeypatch.setenv("SHOP_KEY", "0123456789abcdef" * 2)
    run = Run.begin(tmp_path / "run", given)
    run.train()
    files = [path for path in run.folder.rglob("*") if path.is_file()]
    assert files
    assert not [path for path in files if b"@mail.example" in path.read_bytes()]
    assert run.known_events.history("u3@mail.example")
    assert run.known_events.history("nobody") == []
