"""The benchmark of reading, with few rows."""

import argparse

import pyarrow.csv as arrow_csv
import pyarrow.parquet as pq
import pytest

from benchmarks import reading
from tfrec_meta.data import read_interactions


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setattr(reading, "_STRETCH", 100)
    reading.write_files(tmp_path, 250, seed=1)
    return tmp_path


def test_bad_files_are_good_files_with_a_bad_cell_in_each_101st_row(folder):
    good = read_interactions(folder / "good.csv")
    assert len(good) == 250
    assert read_interactions(folder / "iso.csv").equals(good)
    assert read_interactions(folder / "good.parquet").equals(good)
    # In stretches of 100 rows, the first row of each is bad.
    rows = [row for row in range(250) if row % 100]
    for name, reason in (("bad", "value"), ("bad_times", "time"), ("bad_iso", "time")):
        bad = read_interactions(folder / f"{name}.csv", bad_rows="drop", max_bad_share=0.1)
        assert bad.dropped == {f"unreadable {reason}": 3}
        assert bad.equals(good.take(rows))


def test_pyarrow_reads_the_same_rows(folder):
    read = arrow_csv.read_csv(folder / "good.csv")
    assert read.select(["time", "value"]).equals(
        pq.read_table(folder / "good.parquet").select(["time", "value"])
    )


def test_a_stopped_benchmark_resumes_and_ends_with_every_figure(tmp_path, monkeypatch):
    measured = []

    def measure(reader, path):
        measured.append((reader, path.name))
        assert path.is_file()
        if len(measured) == 5:
            raise KeyboardInterrupt
        return {"cpu": 2.0 if "bad" in path.name else 1.0, "wall": 1.0, "peak_mb": 10.0}

    monkeypatch.setattr(reading, "measure", measure)
    options = argparse.Namespace(folder=str(tmp_path / "parts"), seed=1)
    with pytest.raises(KeyboardInterrupt):
        reading.run(options, 200, 1)
    result = reading.run(options, 200, 1)
    assert len(measured) == len(reading.CASES) + 1  # the stopped one is measured again
    assert result["bad_ratio"] == result["bad_times_ratio"] == result["bad_iso_ratio"] == 2.0
    assert result["csv_ratio"] == result["peak_ratio"] == 1.0
