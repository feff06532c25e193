"""The examples of the page about storage run, with a bucket on this machine."""

import re
from pathlib import Path

import pytest

import tfrec_meta as tm
from tfrec_meta.io.stores import RemotePath

PAGE = Path(__file__).parents[2] / "docs" / "storage.md"


@pytest.mark.slow  # imports TensorFlow, trains, exports and serves
def test_the_examples_of_the_page_run(s3, monkeypatch, tmp_path, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TFREC_META_CACHE", str(tmp_path / "cache"))
    data = tm.synthetic(users=200, items=100, interactions=4_000, seed=7)
    ids = zip(data.events["user_id"].to_pylist(), data.events["item_id"].to_pylist(), strict=True)
    rows = "".join(f"{user},{item}\n" for user, item in ids)
    text = f"user_id,item_id\n{rows}"
    (RemotePath(s3) / "logs/2025-01/orders.csv").write(text.encode())
    (RemotePath(s3) / "items.csv").write(b"item_id,title\ni1,Tea\n")
    blocks = re.findall(r"^```python\n(.*?)^```", PAGE.read_text(), re.M | re.S)
    assert len(blocks) == 2
    exec(compile("\n".join(blocks), str(PAGE), "exec"), {})
    shown = capsys.readouterr().out.splitlines()
    assert shown[0].startswith("Interactions('orders': 4,000 events")
    assert shown[1] == "s3://shop/models/orders/1"
    assert shown[-2:] == ["3", "2"]
