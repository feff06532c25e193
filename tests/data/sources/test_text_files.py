"""Every line of a text file is read, a part of a row, or counted; whatever its format."""

import csv
import gzip
import io
import itertools

import pyarrow as pa
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tfrec_meta.data import read_interactions
from tfrec_meta.data.events import RowCheck
from tfrec_meta.data.sources import byte_streams
from tfrec_meta.data.sources.formats import FileFormat, TextFormat
from tfrec_meta.data.sources.text_files import read_text_table, text_batches

CELLS = st.text(alphabet="ab1é ,;|\t\"'\n\r", max_size=6)
ROWS = st.lists(st.tuples(st.sampled_from("uvw"), st.sampled_from("xyz"), CELLS), max_size=12)


def write(path, text, encoding="utf8"):
    path.write_bytes(text if isinstance(text, bytes) else text.encode(encoding))
    return path


def read(path, text, columns, **options):
    """Returns the rows of a file, in order, and the numbers of dropped rows by reason."""
    check = RowCheck("drop")
    tables = [table for table, _ in text_batches(path, columns, check, text, **options)]
    rows = [tuple(row.values()) for table in tables for row in table.to_pylist()]
    return rows, dict(check.dropped)


@settings(max_examples=300, deadline=None)
@given(
    rows=ROWS,
    delimiter=st.sampled_from(",;|\t"),
    quote=st.sampled_from("\"'"),
    quoting=st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL]),
    end=st.sampled_from(["\n", "\r\n", "\r"]),
    encoding=st.sampled_from(["utf8", "utf-8-sig", "latin1", "utf-16", "cp1252"]),
    chunk=st.sampled_from([4, 7, 64, 1 << 20]),
)
def test_rows_of_any_dialect_are_read_as_they_were_written(
    tmp_path_factory, rows, delimiter, quote, quoting, end, encoding, chunk
):
    path = tmp_path_factory.mktemp("dialects") / "log.csv"
    text = io.StringIO(newline="")
    if end != "\r\n":  # Python's csv would leave the other line break without quotation marks
        quoting = csv.QUOTE_ALL
    writer = csv.writer(
        text, delimiter=delimiter, quotechar=quote, quoting=quoting, lineterminator=end
    )
    writer.writerows([("user_id", "item_id", "note"), *rows])
    write(path, text.getvalue(), encoding)
    form = TextFormat(delimiter, None, encoding, quote, trusted=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(byte_streams, "CHUNK", chunk)
        found, dropped = read(path, form, {name: name for name in ("user_id", "item_id", "note")})
    assert found == [(user, item, note or None) for user, item, note in rows]
    assert not dropped


@settings(max_examples=300, deadline=None)
@given(
    lines=st.lists(st.text(alphabet="ab,\"'é", max_size=9), max_size=30),
    chunk=st.sampled_from([1, 16, 1 << 20]),
)
@example(lines=["a,b", '"a,b', "a,b", "a,b", 'a,b"', "a,b"], chunk=16)
@example(lines=['a,"', "b,a", 'c,"d'], chunk=1)
def test_every_line_without_quoting_is_kept_or_counted(tmp_path_factory, lines, chunk):
    path = write(
        tmp_path_factory.mktemp("lines") / "log.csv", "\n".join(["user_id,item_id", *lines])
    )
    columns = {"user_id": "user_id", "item_id": "item_id"}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(byte_streams, "CHUNK", chunk)
        kept, dropped = read(path, TextFormat(quote=""), columns)
        quoted, quoted_dropped = read(path, TextFormat(), columns)
    filled = [line for line in lines if line]
    assert len(kept) + sum(dropped.values()) == len(filled)
    assert kept == [
        tuple(cell or None for cell in line.split(",")) for line in filled if line.count(",") == 1
    ]
    # With quoting, a cell may span lines, so that there are fewer rows; but none is lost.
    assert len(quoted) + sum(quoted_dropped.values()) <= len(filled)
    if not any('"' in line for line in lines):
        assert quoted == kept


def test_a_stray_quotation_mark_swallows_no_rows(tmp_path):
    rows = [f"u{n % 50},i{n % 70},plain words" for n in range(1000)]
    rows[3], rows[900] = 'u3,i3,"first of a pair', 'u3,i3,screen 12"'
    path = write(tmp_path / "log.csv", "user_id,item_id,query\n" + "\n".join(rows) + "\n")
    with pytest.raises(ValueError, match=r"row 4 \(line 5\): a quotation mark opens a cell"):
        read_interactions(path)
    data = read_interactions(path, bad_rows="drop")
    assert len(data) == 999
    assert data.dropped == {"unreadable row": 1}
    assert len(read_interactions(path, quote="")) == 1000
    # Given explicitly, the quotation mark counts, as for Python's csv: 897 line breaks in a cell.
    assert len(read_interactions(path, quote='"')) == 1000 - 897


def test_a_quotation_mark_that_is_never_closed_costs_one_row(tmp_path):
    rows = [f"u{n % 50},i{n % 70},{1 + n % 5}" for n in range(10_000)]
    rows[20] = 'u20,"Heroes,3'
    path = write(tmp_path / "log.csv", "user_id,item_id,value\n" + "\n".join(rows) + "\n")
    data = read_interactions(path, bad_rows="drop")
    assert (len(data), data.dropped) == (9_999, {"unreadable row": 1})
    with pytest.raises(ValueError, match=r"row 21 \(line 22\): .* and none closes it"):
        read_interactions(path)


def test_a_tsv_file_has_no_quoting_unless_it_is_asked_for(tmp_path):
    path = write(tmp_path / "items.tsv", 'item_id\ttitle\ni1\t"Heroes\ni2\tLive 12"\ni3\t"A"\n')
    form = FileFormat()
    assert read_text_table(path, form.text(path))["title"].to_pylist() == [
        '"Heroes',
        'Live 12"',
        '"A"',
    ]
    quoted = read_text_table(path, FileFormat(quote='"').text(path))
    assert quoted["title"].to_pylist() == ["Heroes\ni2\tLive 12", "A"]


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_line_ends_of_all_systems(tmp_path, end):
    path = write(tmp_path / "log.csv", end.join(["user_id,item_id", "a,x", "", "b,y", "c"]))
    with pytest.raises(ValueError, match=r"row 3 \(line 5\): 1 cells instead of 2 in 'c'"):
        read_interactions(path)
    data = read_interactions(path, bad_rows="drop", max_bad_share=0.5)
    assert data.user_ids.tolist() == ["a", "b"]
    assert data.dropped == {"unreadable row": 1}


def test_names_of_the_header_are_trimmed_and_may_be_quoted(tmp_path):
    path = write(tmp_path / "log.csv", '\ufeff"user_id", item_id ,"a\nnote"\nu,i,n\n')
    data = read_interactions(path, {"note": "a\nnote"})
    assert data.events["note"].to_pylist() == ["n"]


def test_nul_bytes_are_no_reason_to_lose_rows(tmp_path):
    path = write(tmp_path / "log.csv", b"user_id,item_id\na,x\nb\0c,y\n\0\0\0\0\n")
    data = read_interactions(path, bad_rows="drop", max_bad_share=0.5)
    assert data.user_ids.tolist() == ["a", "b\0c"]
    assert data.dropped == {"unreadable row": 1}


def test_utf16_is_named(tmp_path):
    path = write(tmp_path / "log.csv", "user_id,item_id\na,x\n", "utf-16")
    with pytest.raises(ValueError, match=r"is UTF-16.*set `encoding` to 'utf-16'"):
        read_interactions(path)
    assert read_interactions(path, encoding="utf-16").user_ids.tolist() == ["a"]


def test_bytes_outside_of_the_encoding_are_counted(tmp_path):
    path = write(
        tmp_path / "log.csv", b"user_id,item_id,town\na,x,Ulm\nb,y,K\xf6ln\nc,z,\xc3\xa4\n"
    )
    data = read_interactions(path, {"town": "town"}, bad_rows="drop", max_bad_share=0.5)
    assert data.events["town"].to_pylist() == ["Ulm", "ä"]
    assert data.dropped == {"unreadable text": 1}


def test_gzip_and_zstd_are_read_and_truncation_is_an_error(tmp_path):
    text = "user_id,item_id\n" + "".join(f"u{n * 7919 % 1009},i{n % 97}\n" for n in range(9_000))
    sink = pa.BufferOutputStream()
    with pa.CompressedOutputStream(sink, "zstd") as stream:
        stream.write(text.encode())
    packed = {"gz": gzip.compress(text.encode()), "zst": sink.getvalue().to_pybytes()}
    for suffix, data in packed.items():
        path = write(tmp_path / f"log.csv.{suffix}", data)
        assert len(read_interactions(path)) == 9_000
        # Two compressed files in one, as log writers append them.
        extra = gzip.compress(b"v,j\n") if suffix == "gz" else data
        write(path, data + extra)
        assert len(read_interactions(path, bad_rows="drop")) >= 9_001
        for size in (len(data) - 1, len(data) // 2, 20):
            write(path, data[:size])
            with pytest.raises(ValueError, match=f"log.csv.{suffix} is (cut off or )?damaged"):
                read_interactions(path)


def test_a_file_that_grows_is_read_up_to_its_last_whole_row(tmp_path, monkeypatch, caplog):
    path = write(tmp_path / "log.csv", "user_id,item_id,time\na,x,100\nb,y,2")
    opened = byte_streams._decompressed

    def grow(*arguments):
        with open(path, "a") as file:
            file.write("00\nc,z,300\n")
        return opened(*arguments)

    monkeypatch.setattr(byte_streams, "_decompressed", grow)
    data = read_interactions(path)
    # Not the time 2 of the row that was half written.
    assert data.times.tolist() == [100]
    assert "grew from" in caplog.text


def test_a_wide_header_takes_linear_time(tmp_path):
    wide = [f"c{n}" for n in range(40_000)]
    path = write(
        tmp_path / "log.csv", ",".join(["user_id", "item_id", *wide]) + "\n" + "1," * 40_001
    )
    assert len(read_interactions(path, {"note": "c39998"})) == 1


def test_bad_rows_of_every_kind_are_all_counted(tmp_path):
    kinds = ["a,x,1", "a,x", "a,x,1,2", ",x,1", "a,,1", "a,x,many", "a,x,", '"a,x,1', 'a,x,"1', ""]
    lines = list(itertools.islice(itertools.cycle(kinds), 5_000))
    path = write(tmp_path / "log.csv", "user_id,item_id,value\n" + "\n".join(lines) + "\n")
    for quote, good in (("", 1000), (None, 500)):  # without quoting, '"a' is an id
        data = read_interactions(path, bad_rows="drop", max_bad_share=1, quote=quote)
        assert len(data) + sum(data.dropped.values()) == sum(map(bool, lines))
        assert len(data) == good


@pytest.mark.slow
def test_one_bad_row_among_ten_million_is_found_and_named(tmp_path):
    path = tmp_path / "log.csv"
    half = "".join(f"u{n % 1000},i{n % 300},{1 + n % 5}\n" for n in range(100_000)).encode() * 50
    path.write_bytes(b"user_id,item_id,value\n" + half + b"u1,i1,many\n" + half)
    with pytest.raises(ValueError, match=r"row 5000001 \(line 5000002\), column `value`: 'many'"):
        read_interactions(path)
    data = read_interactions(path, bad_rows="drop")
    assert (len(data), data.dropped) == (10_000_000, {"unreadable value": 1})
