"""Recorded tables: what is read, what a point answers, and what is said of bad folders."""

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from benchmarks.recorded_tables import read_tables


def write(folder, name, direction=None, **columns):
    table = pa.Table.from_pandas(pd.DataFrame(columns), preserve_index=False)
    table = table.replace_schema_metadata({"direction": direction} if direction else None)
    pq.write_table(table, folder / f"{name}.parquet")


GRID = {"width": [1, 2, 4, 1, 2, 4], "kind": ["a", "a", "a", "b", "b", "b"]}


@pytest.fixture
def folder(tmp_path):
    write(tmp_path, "one", **GRID, objective=[5.0, 4.0, 3.0, 2.0, 1.0, 9.0])
    write(tmp_path, "two", "max", **GRID, objective=[5.0, 4.0, 3.0, 2.0, 1.0, 9.0])
    return tmp_path


def test_a_point_answers_with_its_row(folder):
    space, (one, two) = read_tables(folder)
    assert [p.name for p in space.space] == ["width", "kind"]
    assert space.values == {"width": 2, "kind": "b"}  # the middle ones
    assert one.of_values({"width": 2, "kind": "b"}) == 1.0
    assert (one.direction, two.direction) == ("min", "max")


def test_regret_is_0_at_the_best_and_1_at_the_median(folder):
    _, (one, two) = read_tables(folder)
    # Least is best: 1, with a median of 3.5.
    np.testing.assert_allclose(one.regrets([3.5, 9.0, 2.25, 1.0]), [1.0, 1.0, 0.5, 0.0])
    # Most is best: 9.
    np.testing.assert_allclose(two.regrets([3.5, 9.0]), [1.0, 0.0])
    assert one.best_rows().tolist() == [4, 3, 2, 1, 0, 5]
    assert two.best_rows()[0] == 5


def test_a_point_that_was_not_recorded_answers_as_the_nearest_row(tmp_path):
    few = {"width": [1, 2, 4], "kind": ["a", "b", "b"]}
    write(tmp_path, "one", **few, objective=[1.0, 2.0, 3.0])
    write(tmp_path, "two", **few, objective=[1.0, 2.0, 3.0])
    _, (one, _) = read_tables(tmp_path)
    assert one.of_values({"width": 4, "kind": "a"}) in (1.0, 3.0)
    assert one.of_values({"width": 1, "kind": "b"}) == 2.0


def test_what_has_no_meaning_is_a_choice_of_its_own(tmp_path):
    for name in ("one", "two"):
        write(tmp_path, name, rate=[0.1, None, 0.2], objective=[1.0, 2.0, 3.0])
    _, (one, _) = read_tables(tmp_path)
    assert one.of_values({"rate": "(none)"}) == 2.0
    assert one.of_values({"rate": "0.2"}) == 3.0


def test_a_trial_that_diverged_counts_as_the_worst(tmp_path):
    for name in ("one", "two"):
        write(tmp_path, name, width=[1, 2, 3], objective=[1.0, np.nan, 7.0])
    _, (one, _) = read_tables(tmp_path)
    assert one.objective.tolist() == [1.0, 7.0, 7.0]


def test_bad_folders_are_named(tmp_path, folder):
    with pytest.raises(ValueError, match=r"has 0 Parquet files"):
        read_tables(tmp_path / "nothing")
    write(folder, "three", width=[1], objective=[1.0])
    with pytest.raises(ValueError, match=r"three\.parquet has other columns than"):
        read_tables(folder)
    write(folder, "three", "up", **GRID, objective=[1.0] * 6)
    with pytest.raises(ValueError, match="`direction` is 'up'"):
        read_tables(folder)
    write(folder, "three", **GRID, loss=[1.0] * 6)
    with pytest.raises(ValueError, match="no column `objective`"):
        read_tables(folder)
    write(folder, "three", **GRID, objective=[np.nan] * 6)
    with pytest.raises(ValueError, match="no row with a finite `objective`"):
        read_tables(folder)
