"""Times from numbers and text: mixed formats, units, and what has two meanings."""

import datetime
import logging
import re

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tfrec_meta.data import Interactions, times
from tfrec_meta.data.times import TimeReader

UTC = datetime.UTC


def seconds(*args):
    return int(datetime.datetime(*args, tzinfo=UTC).timestamp())


def read(cells, *arguments):
    times, bad = TimeReader(*arguments).read(pa.array(cells))
    return [None if wrong else time for time, wrong in zip(times.to_pylist(), bad, strict=True)]


# The same moment in every notation, 2025-09-15 08:20:19 UTC.
SAME = [
    "2025-09-15T08:20:19Z",
    "2025-09-15T08:20:19",
    "2025-09-15 08:20:19",
    "2025-09-15 08:20:19 UTC",
    "2025-09-15T10:20:19+02:00",
    "2025-09-15T10:20:19+0200",
    "2025-09-15 03:50:19-04:30",
    "2025-09-15T10:20:19+02",
    "2025-09-15T08:20:19.123456",
    "2025-09-15T08:20:19.123456789Z",
    "2025-09-15 08:20:19,5",
    "2025/09/15 08:20:19",
    " 2025-09-15T08:20:19Z ",
    "1757924419",
    "1757924419.75",
]


def test_valid_times_in_any_mixture_are_all_read():
    assert seconds(2025, 9, 15, 8, 20, 19) == 1757924419
    assert read(SAME) == [1757924419] * len(SAME)
    assert read([*SAME, None, "", "noon"])[-3:] == [None, None, None]
    assert read(["2025-09-15", "2025-09-15T08:20", "2025-09-15 08:20+01:00"]) == [
        seconds(2025, 9, 15),
        seconds(2025, 9, 15, 8, 20),
        seconds(2025, 9, 15, 7, 20),
    ]


# Days that each month has and others, and cells that are written like times but are none.
DAYS = ["2024-02-28", "2024-02-29", "2023-02-29", "2024-04-30", "2024-04-31", "2024-01-31"]
DAYS += ["2024-00-10", "2024-13-10", "2024-10-00", "2024-12-32", "20x4-12-31", "1969-12-31"]


@pytest.mark.parametrize(
    "form",
    ["{}", "{} 07:05", "{}T23:59:59", "{}T07:05:09Z", "{} 07:05:09.125", "{}T07:05:09.125+05:30"],
)
def test_bad_cells_do_not_change_how_the_others_are_read(form):
    def python(cell):
        try:
            time = datetime.datetime.fromisoformat(cell)
        except ValueError:
            return None
        return int(time.replace(tzinfo=time.tzinfo or UTC).timestamp() // 1)

    cells = [form.format("2024-05-17"), *(form.format(day) for day in DAYS * 3), "soon", "soon"]
    cells += [form.format("2024-05-17").replace("07:05", word) for word in ("24:05", "07:60")]
    expected = [python(cell) for cell in cells]
    assert None in expected
    assert read([*cells, None, "7"]) == [*expected, None, 7]
    assert read(["7", None, *cells]) == [7, None, *expected]


def test_a_time_zone_that_there_is_not_costs_no_other_cell():
    cells = ["2024-05-17T10:00:00+02:00"] * 30
    assert read([*cells, "2024-05-17T10:00:00+02:99"]) == [seconds(2024, 5, 17, 8)] * 30 + [None]


def test_each_distinct_text_is_read_once_and_words_not_at_all(monkeypatch):
    parsed = []
    parse = times._iso_seconds

    def noted(cells):
        parsed.extend(cells.to_pylist())
        return parse(cells)

    monkeypatch.setattr(times, "_iso_seconds", noted)
    day = seconds(2024, 5, 17)
    cells = ["17", "2024-05-17", "soon", "1 pm", "soon", "1 pm", "2024-05-17", "18"]
    assert read(cells) == [17, day, None, None, None, None, day, 18]
    assert parsed == ["2024-05-17", "1 pm"]


def test_a_bad_cell_that_a_sample_of_many_misses_is_found():
    cells = ["17"] * 5_000
    for row in (1, 4_321):
        assert read([*cells[:row], "soon", *cells[row:]]) == [17] * row + [None] + [17] * (
            5_000 - row
        )


@pytest.mark.parametrize("block", [1, 2, 7, 100])
def test_what_is_read_does_not_depend_on_the_block(block):
    cells = (SAME * 3)[:40]
    reader = TimeReader()
    for start in range(0, len(cells), block):
        times, bad = reader.read(pa.array(cells[start : start + block]))
        assert set(times.to_pylist()) == {1757924419}
        assert not bad.any()


@settings(max_examples=300, deadline=None)
@given(
    st.lists(
        st.datetimes(
            datetime.datetime(1900, 1, 1),
            datetime.datetime(2200, 1, 1),
            timezones=st.one_of(
                st.none(),
                st.integers(-720, 840).map(
                    lambda n: datetime.timezone(datetime.timedelta(minutes=n))
                ),
            ),
        ),
        min_size=1,
        max_size=20,
    ),
    st.sampled_from("T "),
)
def test_iso_8601_is_read_as_python_reads_it(times, separator):
    cells = [time.isoformat(separator) for time in times]
    expected = [
        int(np.floor((time if time.tzinfo else time.replace(tzinfo=UTC)).timestamp()))
        for time in times
    ]
    assert read(cells) == expected
    assert read([*cells, "2025-09-15T08:20:19Z", "x"])[:-2] == expected  # not in one cast


@pytest.mark.parametrize(
    "cell",
    [
        "2025-02-29",
        "2025-13-01",
        "2025-00-10",
        "0000-00-00 00:00:00",
        "2025-09-15T24:20:19",
        "2025-09-15T08:61:19",
        "2025-09-15T08:20:19.",
        "2025-09-15T08:20:19+2:00",
        "2025-09-15x08:20:19",
        "2025-09/15",
        "2025-09-15Z",
        "15 Sep 2025",
        "nan",
        "é",
    ],
)
def test_what_is_no_time_is_bad(cell):
    assert read([cell, "2025-09-15", "2025-09-15T00:00Z"]) == [None, *[seconds(2025, 9, 15)] * 2]


@pytest.mark.parametrize("cell", ["01/02/2025", "1.2.2025", "25/12/2025", "01-02-25 10:00"])
def test_a_time_with_two_meanings_asks_for_a_format(cell):
    for bad_rows in ("raise", "drop"):
        with pytest.raises(ValueError, match=r"row 2.*day or the month first; set `time_format`"):
            Interactions.from_arrays(
                ["a", "b"], ["x", "y"], ["2025-01-01", cell], bad_rows=bad_rows
            )


@pytest.mark.parametrize(
    ("cells", "formats"),
    [
        (["01.09.2026", "14.09.2026"], "'%d.%m.%Y'"),
        (["01/09/2026 10:30", "14/09/2026 10:30"], "'%d/%m/%Y %H:%M'"),
        (["09/01/2026", "09/14/2026"], "'%m/%d/%Y'"),
        (["09/01/2026", "10/02/2026"], "'%d/%m/%Y' or '%m/%d/%Y'"),
    ],
)
def test_the_error_names_the_formats_that_read_all_times(cells, formats):
    with pytest.raises(ValueError, match=re.escape(f"set `time_format` to {formats}, which")):
        Interactions.from_arrays(["a", "b"], ["x", "y"], cells)


def test_a_given_format_is_used_as_python_uses_it():
    cells = ["01/02/2025 10:30", "30/02/2025 10:30", "31/12/2025 00:00", None, "1/2/25"]
    assert read(cells, None, "%d/%m/%Y %H:%M") == [
        seconds(2025, 2, 1, 10, 30),
        None,
        seconds(2025, 12, 31),
        None,
        None,
    ]
    assert read(["Mon, 15 Sep 2025 10:20:19 +0200"], None, "%a, %d %b %Y %H:%M:%S %z") == [
        1757924419
    ]
    assert read(["15.09.2025 08:20:19.9"], None, "%d.%m.%Y %H:%M:%S.%f") == [1757924419]
    assert read([20250915], None, "%Y%m%d") == [seconds(2025, 9, 15)]


@pytest.mark.parametrize(("unit", "ticks"), [("ms", 10**3), ("us", 10**6), ("ns", 10**9)])
@pytest.mark.parametrize("kind", [pa.int64(), pa.string()])
def test_the_unit_is_recognized_with_a_message(caplog, unit, ticks, kind):
    cells = pa.array([1757924419 * ticks, 0, 1757924420 * ticks]).cast(kind)
    with caplog.at_level(logging.WARNING):
        times, bad = TimeReader().read(cells)
    assert times.to_pylist() == [1757924419, 0, 1757924420]
    assert not bad.any()
    assert f"Set `time_unit` to '{unit}'" in caplog.text
    caplog.clear()
    assert TimeReader(unit).read(cells)[0].to_pylist() == [1757924419, 0, 1757924420]
    assert not caplog.text


def test_numbers_in_another_unit_than_the_others_are_bad():
    assert read([1757924419, 1757924419000, 1757924420]) == [1757924419, None, 1757924420]
    assert read([1757924419000, 1757924419, 1757924420000]) == [1757924419, None, 1757924420]


def test_dates_that_look_like_numbers_ask_for_a_format():
    with pytest.raises(ValueError, match=r"such as 20240501 look like dates.*'%Y%m%d'"):
        read([20240501, 20240502])
    assert read([20240501], "s") == [20240501]
    assert read([20240501, 20249999]) == [20240501, 20249999]
