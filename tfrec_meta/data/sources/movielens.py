"""Reads MovieLens in GroupLens's formats or RecBole's atomic files."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from tfrec_meta.data.events import NUMBERS, SCHEMA, RowCheck, typed_events
from tfrec_meta.data.interactions import Interactions
from tfrec_meta.data.sources.formats import TextFormat
from tfrec_meta.data.sources.movielens_download import MARKERS, check_name, fetch_movielens
from tfrec_meta.data.sources.text_files import read_text_table, text_batches
from tfrec_meta.data.times import TimeReader
from tfrec_meta.io.files import PathLike
from tfrec_meta.io.logs import logger
from tfrec_meta.io.progress import Progress

# From GroupLens's READMEs; latest-small changes over time.
_RATINGS = {
    "100k": 100_000,
    "1m": 1_000_209,
    "20m": 20_000_263,
    "25m": 25_000_095,
    "32m": 32_000_204,
}
_GENRES_100K = (
    "unknown",
    "Action",
    "Adventure",
    "Animation",
    "Children's",
    "Comedy",
    "Crime",
    "Documentary",
    "Drama",
    "Fantasy",
    "Film-Noir",
    "Horror",
    "Musical",
    "Mystery",
    "Romance",
    "Sci-Fi",
    "Thriller",
    "War",
    "Western",
)
_OCCUPATIONS_1M = (
    "other",
    "academic/educator",
    "artist",
    "clerical/admin",
    "college/grad student",
    "customer service",
    "doctor/health care",
    "executive/managerial",
    "farmer",
    "homemaker",
    "K-12 student",
    "lawyer",
    "programmer",
    "retired",
    "sales/marketing",
    "scientist",
    "self-employed",
    "technician/engineer",
    "tradesman/craftsman",
    "unemployed",
    "writer",
)
_NO_GENRE = ("unknown", "(no genres listed)", "")
_ARTICLES = "The|A|An|Le|La|Les|L'|Il|Lo|El|Los|Las|Das|Der|Die|Den|Det|Un|Une|Una"

_log = logger(__name__)


def movielens(
    name: str = "100k", folder: PathLike | None = None, cache: PathLike | None = None
) -> Interactions:
    """Reads MovieLens ratings, in the order of the file.

    Args:
        name: "100k", "1m", "20m", "25m", "32m" or "latest-small".
        folder: the folder of the files, in GroupLens's formats (`u.data`, `*.dat`, `*.csv`) or
            RecBole's (`*.inter`, `*.item`, `*.user`), or their parent if theirs is `ml-<name>`.
            By default the files are in the cache folder, where `fetch_movielens` downloads them.
        cache: the cache folder; by default $TFREC_META_CACHE or the user's cache folder.

    Returns:
        Interactions: value is the rating, 0.5 to 5. Items: title string (without the year),
        year int32, genres list<string>. Users (100k and 1m): age int32, gender, occupation,
        zip_code string.

    Raises:
        FileNotFoundError: if the folder or a file in it does not exist.
        ValueError: for an unknown name, or a file that is damaged or of another data set.
        ConnectionError: if the download fails.
    """
    check_name(name)
    place = fetch_movielens(name, cache) if folder is None else _find(name, Path(folder))
    label = f"movielens-{name}"
    atomic = sorted(place.glob("*.inter"))
    if atomic:
        named = place / f"ml-{name}.inter"
        if named not in atomic and len(atomic) > 1:
            raise ValueError(f"{place} holds {len(atomic)} *.inter files, but no {named.name}.")
        source = named if named in atomic else atomic[0]
        data = _read_recbole(source, label)
    else:
        marker = next(file for file in MARKERS if (place / file).is_file())
        source = place / marker
        if name not in MARKERS[marker]:
            raise ValueError(
                f"{source} is not movielens {name!r}, but the format of "
                f"{' or '.join(MARKERS[marker])}; pass that name or another folder."
            )
        read = {"u.data": _read_100k, "ratings.dat": _read_1m, "ratings.csv": _read_csv}[marker]
        data = read(place, label)
    if len(data) < _RATINGS.get(name, 0):
        # A file that is cut off after a line looks complete, and so does a sample.
        _log.warning(
            "%s holds %s ratings, but movielens %s has %s: it is cut off or a sample.",
            source,
            f"{len(data):,}",
            name,
            f"{_RATINGS[name]:,}",
        )
    return data


def _find(name: str, folder: Path) -> Path:
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder} is not a folder; check the path.")
    for place in (folder, folder / f"ml-{name}"):
        if any((place / file).is_file() for file in MARKERS) or any(place.glob("*.inter")):
            return place
    raise FileNotFoundError(
        f"{folder} holds no MovieLens files ({', '.join(MARKERS)} or *.inter), nor does its "
        f"subfolder ml-{name}; check the path."
    )


def _read_recbole(events: Path, name: str) -> Interactions:
    text = TextFormat("\t", quote="")

    def typed_header(path: Path) -> dict[str, str]:
        """Returns names with their type, such as rating:float, by names without it."""
        with open(path, encoding="utf8") as file:
            cells = file.readline().rstrip("\r\n").split("\t")
        return {cell.split(":")[0]: cell for cell in cells}

    header = typed_header(events)
    ours = {"user_id": "user_id", "item_id": "item_id", "time": "timestamp", "value": "rating"}
    table = _events(events, text, {key: header.get(plain, plain) for key, plain in ours.items()})

    items = users = None
    path = events.with_suffix(".item")
    if path.is_file():
        header = typed_header(path)
        raw = read_text_table(path, text, header)
        titles = raw["movie_title"] if "movie_title" in header else None
        genre_column = "class" if "class" in header else "genre"
        genres = raw[genre_column] if genre_column in header else None
        years = raw["release_year"] if "release_year" in header else None
        items = _movies(raw["item_id"], titles, genres, " ", years)
    path = events.with_suffix(".user")
    if path.is_file():
        raw = read_text_table(path, text, typed_header(path))
        users = _people(raw, path)
    return Interactions(table, users, items, name)


def _read_100k(folder: Path, name: str) -> Interactions:
    columns = ("user_id", "item_id", "value", "time")
    events = _events(
        folder / "u.data",
        TextFormat("\t", columns, quote=""),
        {column: column for column in columns},
    )
    fields = ("item_id", "title", "released", "video", "url", *_GENRES_100K)
    raw = read_text_table(folder / "u.item", TextFormat("|", fields, "latin1", quote=""))
    flags = np.stack([raw[genre].to_numpy() == "1" for genre in _GENRES_100K[1:]], axis=1)
    offsets = np.concatenate([[0], np.cumsum(flags.sum(axis=1))]).astype(np.int32)
    names = np.array(_GENRES_100K[1:], object)[np.nonzero(flags)[1]]
    genres = pa.ListArray.from_arrays(pa.array(offsets), pa.array(names, pa.string()))
    years = pc.utf8_slice_codeunits(raw["released"], -4, 1 << 20)
    items = _movies(raw["item_id"], raw["title"], genres, "|", years)
    columns_of_users = ("user_id", "age", "gender", "occupation", "zip_code")
    text = TextFormat("|", columns_of_users, "latin1", quote="")
    users = read_text_table(folder / "u.user", text)
    return Interactions(events, _people(users, folder / "u.user"), items, name)


def _read_1m(folder: Path, name: str) -> Interactions:
    # Arrow supports delimiters of one character; these files have two, and no tabs.
    with tempfile.TemporaryDirectory() as work:
        paths = {}
        for file in ("ratings.dat", "movies.dat", "users.dat"):
            if not (folder / file).is_file():
                raise FileNotFoundError(f"{folder / file} is missing; download the data again.")
            paths[file] = Path(work) / file
            paths[file].write_bytes((folder / file).read_bytes().replace(b"::", b"\t"))
        columns = ("user_id", "item_id", "value", "time")
        events = _events(
            paths["ratings.dat"],
            TextFormat("\t", columns, quote=""),
            {column: column for column in columns},
            shown=folder / "ratings.dat",
        )
        text = TextFormat("\t", ("item_id", "title", "genres"), "latin1", quote="")
        raw = read_text_table(paths["movies.dat"], text, shown=folder / "movies.dat")
        items = _movies(raw["item_id"], raw["title"], raw["genres"], "|")
        fields = ("user_id", "gender", "age", "occupation", "zip_code")
        text = TextFormat("\t", fields, "latin1", quote="")
        users = read_text_table(paths["users.dat"], text, shown=folder / "users.dat")
    codes = pa.array([str(code) for code in range(len(_OCCUPATIONS_1M))])
    place = pc.index_in(users["occupation"], value_set=codes)
    occupation = pc.take(pa.array(_OCCUPATIONS_1M), place)
    users = users.set_column(users.column_names.index("occupation"), "occupation", occupation)
    return Interactions(events, _people(users, folder / "users.dat"), items, name)


def _read_csv(folder: Path, name: str) -> Interactions:
    text = TextFormat(",")
    events = _events(
        folder / "ratings.csv",
        text,
        {"user_id": "userId", "item_id": "movieId", "time": "timestamp", "value": "rating"},
    )
    columns = {"item_id": "movieId", "title": "title", "genres": "genres"}
    raw = read_text_table(folder / "movies.csv", text, columns)
    items = _movies(raw["item_id"], raw["title"], raw["genres"], "|")
    return Interactions(events, None, items, name)


def _events(
    path: Path, text: TextFormat, columns: Mapping[str, str], shown: Path | None = None
) -> pa.Table:
    check = RowCheck(advice="Fetch the file again.")
    with Progress(f"reading {path.name}", path.stat().st_size if path.is_file() else 0) as progress:
        tables = [
            typed_events(
                batch,
                check,
                source=str(shown or path),
                row_name=row_name,
                times=TimeReader("s"),
            )
            for batch, row_name in text_batches(
                path,
                columns,
                check,
                text,
                numbers=NUMBERS,
                undecoded=SCHEMA.names,
                progress=progress,
                shown=shown,
            )
        ]
    if not tables:
        raise ValueError(f"{shown or path} holds no event; fetch the data again.")
    return pa.concat_tables(tables)


def _movies(
    item_id: pa.ChunkedArray,
    titles: pa.ChunkedArray | None,
    genres: pa.ChunkedArray | pa.ListArray | None,
    separator: str,
    years: pa.ChunkedArray | None = None,
) -> pa.Table:
    columns: dict[str, pa.ChunkedArray | pa.Array] = {"item_id": item_id}
    year = None
    if titles is not None:
        columns["title"], year = _titles(titles)
    if years is not None:
        digits = pc.if_else(pc.match_substring_regex(years, r"^\d{4}$"), years, None)
        stated = digits.cast(pa.int32())
        year = stated if year is None else pc.coalesce(year, stated)
    if year is not None:
        columns["year"] = year
    if genres is not None:
        if not pa.types.is_list(genres.type):
            genres = _genre_lists(genres, separator)
        columns["genres"] = genres
    return pa.table(columns)


def _titles(titles: pa.ChunkedArray) -> tuple[pa.ChunkedArray, pa.ChunkedArray]:
    """Returns titles in reading order, and their years: "Net, The (1995)" -> "The Net", 1995."""
    titles = pc.utf8_trim_whitespace(titles)
    found = pc.extract_regex(titles, r"\((?P<year>\d{4})\)$")
    year = pc.struct_field(found, "year").cast(pa.int32())
    titles = pc.replace_substring_regex(titles, r"\s*\(\d{4}\)$", "")
    for pattern, moved in (
        (rf"^([^()]+), ({_ARTICLES})( \(.*)?$", r"\2 \1\3"),
        (rf"\(([^()]+), ({_ARTICLES})\)", r"(\2 \1)"),
        (r"(^|\()L' ", r"\1L'"),
    ):
        titles = pc.replace_substring_regex(titles, pattern, moved)
    return titles, year


def _genre_lists(cells: pa.ChunkedArray, separator: str) -> pa.ListArray:
    """Splits cells such as "Crime|Drama" into lists; unknown genres become empty lists."""
    lists = pc.split_pattern(cells, separator).combine_chunks()
    whole = pc.is_in(cells.combine_chunks(), value_set=pa.array(_NO_GENRE))
    row = pc.list_parent_indices(lists).to_numpy()
    genres = pc.list_flatten(lists)
    unknown = pc.is_in(genres, value_set=pa.array(_NO_GENRE)).to_numpy(zero_copy_only=False)
    keep = ~unknown & ~whole.to_numpy(zero_copy_only=False)[row]
    count = np.bincount(row[keep], minlength=len(cells))
    offsets = np.concatenate([[0], np.cumsum(count)]).astype(np.int32)
    return pa.ListArray.from_arrays(pa.array(offsets), genres.filter(pa.array(keep)))


def _people(table: pa.Table, path: Path) -> pa.Table:
    """Returns the table with ages as numbers."""
    if "age" not in table.column_names:
        return table
    try:
        age = table["age"].cast(pa.int32())
    except pa.ArrowInvalid as error:
        raise ValueError(f"{path}, column `age`: {error}. Fetch the file again.") from error
    return table.set_column(table.column_names.index("age"), "age", age)
