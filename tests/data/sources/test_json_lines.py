"""JSON Lines: values of any type, sparse rows, and lines that are no objects."""

import gzip

import pytest

from tfrec_meta.data import read_interactions

GOOD = (
    '{"user_id": "a", "item_id": 1, "time": 100, "value": 3.5, "tags": ["x", "y"]}\n\n'
    '{"item_id": 2, "user_id": "b", "value": 4, "time": 200, "tags": []}\n'
)


def write(path, text):
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


@pytest.mark.parametrize("suffix", ["jsonl", "ndjson", "jsonl.gz"])
def test_json_lines_are_read_like_other_formats(tmp_path, suffix):
    data = gzip.compress(GOOD.encode()) if suffix.endswith("gz") else GOOD
    path = write(tmp_path / f"log.{suffix}", data)
    read = read_interactions(path, {"tags": "tags"})
    assert read.events["item_id"].to_pylist() == ["1", "2"]
    assert read.events["value"].to_pylist() == [3.5, 4.0]
    assert read.times.tolist() == [100, 200]
    assert read.events["tags"].to_pylist() == [["x", "y"], []]


def test_each_line_is_kept_or_counted(tmp_path):
    lines = [
        '{"user_id": "a", "item_id": "x"}',
        '{"user_id": "b", "item_id": "y"',
        "[1, 2]",
        '{"user_id": null, "item_id": "z"}',
        '{"item_id": "z"}',
        "[" * 100_000,
        '{"user_id": "c", "item_id": "x"}{"user_id": "d", "item_id": "x"}',
        '{"user_id": 12345678901234567890123, "item_id": 7.0}',
    ]
    path = write(tmp_path / "log.jsonl", "\n".join(lines))
    with pytest.raises(ValueError, match=r"log.jsonl, row 2 \(line 2\): .* is not JSON"):
        read_interactions(path)
    data = read_interactions(path, bad_rows="drop", max_bad_share=1)
    assert data.user_ids.tolist() == ["a", "12345678901234567890123"]
    assert data.item_ids.tolist() == ["x", "7"]
    assert data.dropped == {"unreadable row": 4, "missing user_id": 2}


def test_a_column_of_later_rows_only_is_an_error(tmp_path, monkeypatch):
    monkeypatch.setattr("tfrec_meta.data.sources.byte_streams.CHUNK", 40)
    rows = ['{"user_id": "a", "item_id": "x"}'] * 3
    path = write(tmp_path / "log.jsonl", "\n".join([*rows, rows[0][:-1] + ', "value": 1}']))
    with pytest.raises(ValueError, match=r"has `value` .* only in later rows"):
        read_interactions(path)
