import pytest

from tfrec_meta.data import movielens

FILES_100K = {
    "u.data": "1\t10\t5\t881250949\n2\t11\t3\t881250950\n",
    "u.item": "10|Net, The (1995)|01-Jan-1995||http://x|0|1"
    + "|0" * 16
    + "|1\n11|Café (Caf, Le)|07-Feb-1996||http://y|1"
    + "|0" * 18
    + "\n12|unknown|||"
    + "|1"
    + "|0" * 18
    + "\n",
    "u.user": "1|24|M|technician|85711\n2|53|F|other|T8H1N\n",
}
FILES_1M = {
    "ratings.dat": "1::10::5::978300760\n2::11::3::978302109\n",
    "movies.dat": "10::Net, The (1995)::Action|Sci-Fi\n11::Misérables, Les (1998)::Drama\n",
    "users.dat": "1::F::1::10::48067\n2::M::56::16::70072\n",
}
FILES_CSV = {
    "ratings.csv": "userId,movieId,rating,timestamp\n1,10,3.5,1112486027\n2,11,0.5,1112484676\n",
    "movies.csv": 'movieId,title,genres\n10,"Net, The (1995)",Action|Sci-Fi\n'
    '11,"Say ""Hello"" (Dites bonjour) (2001) ",(no genres listed)\n',
}
FILES_RECBOLE = {
    "ml-1m.inter": "user_id:token\titem_id:token\trating:float\ttimestamp:float\n"
    "1\t10\t5\t978300760\n2\t11\t3\t978302109\n",
    "ml-1m.item": "item_id:token\tmovie_title:token_seq\trelease_year:token\tgenre:token_seq\n"
    "10\tNet, The\t1995\tAction Sci-Fi\n11\tGreat Giving (1995)\tV\tunknown\n",
    "ml-1m.user": "user_id:token\tage:token\tgender:token\toccupation:token\tzip_code:token\n"
    "1\t24\tM\ttechnician\t85711\n",
}


def place(folder, files, encoding="latin1"):
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (folder / name).write_bytes(text.encode(encoding))
    return folder


@pytest.fixture(scope="module")
def ml100k():
    return movielens("100k")


def test_100k_is_whole(ml100k):
    assert len(ml100k) == 100_000
    assert len(ml100k.user_ids) == 943
    assert len(ml100k.item_ids) == 1682
    assert ml100k.events.slice(0, 1).to_pylist() == [
        {"user_id": "196", "item_id": "242", "time": 881_250_949, "value": 3.0}
    ]
    assert ml100k.users.num_rows == 943
    assert ml100k.dropped == {}


def test_100k_has_titles_years_and_genres_to_read(ml100k):
    films = {film["item_id"]: film for film in ml100k.items.to_pylist()}
    assert films["12"] == {
        "item_id": "12",
        "title": "The Usual Suspects",
        "year": 1995,
        "genres": ["Crime", "Thriller"],
    }
    assert films["1005"]["title"] == "La Double vie de Véronique (The Double Life of Veronique)"
    assert films["177"]["title"] == "The Good, The Bad and The Ugly"
    assert films["1535"]["title"] == "L'Enfer"
    assert films["1412"]["title"] == "Land Before Time III: The Time of the Great Giving"
    assert films["1412"]["year"] == 1995
    assert films["267"]["year"] is None
    assert films["267"]["genres"] == films["1373"]["genres"] == []
    assert films["1622"]["title"] == "Paris, France"


def test_grouplens_100k_files(tmp_path):
    data = movielens("100k", place(tmp_path, FILES_100K))
    assert data.events["value"].to_pylist() == [5.0, 3.0]
    assert data.times.tolist() == [881_250_949, 881_250_950]
    assert data.items.to_pylist() == [
        {"item_id": "10", "title": "The Net", "year": 1995, "genres": ["Action", "Western"]},
        {"item_id": "11", "title": "Café (Le Caf)", "year": 1996, "genres": []},
        {"item_id": "12", "title": "unknown", "year": None, "genres": []},
    ]
    assert data.users.to_pylist()[1] == {
        "user_id": "2",
        "age": 53,
        "gender": "F",
        "occupation": "other",
        "zip_code": "T8H1N",
    }


def test_grouplens_1m_files(tmp_path):
    data = movielens("1m", place(tmp_path / "ml-1m", FILES_1M).parent)
    assert data.times.tolist() == [978_300_760, 978_302_109]
    assert data.items.to_pylist() == [
        {"item_id": "10", "title": "The Net", "year": 1995, "genres": ["Action", "Sci-Fi"]},
        {"item_id": "11", "title": "Les Misérables", "year": 1998, "genres": ["Drama"]},
    ]
    assert data.users["occupation"].to_pylist() == ["K-12 student", "self-employed"]
    assert data.users["age"].to_pylist() == [1, 56]


@pytest.mark.parametrize("name", ["20m", "25m", "32m", "latest-small"])
def test_grouplens_csv_files(tmp_path, name):
    data = movielens(name, place(tmp_path, FILES_CSV, "utf8"))
    assert data.name == f"movielens-{name}"
    assert data.events["value"].to_pylist() == [3.5, 0.5]
    assert data.items.to_pylist() == [
        {"item_id": "10", "title": "The Net", "year": 1995, "genres": ["Action", "Sci-Fi"]},
        {"item_id": "11", "title": 'Say "Hello" (Dites bonjour)', "year": 2001, "genres": []},
    ]
    assert data.users is None


def test_recbole_atomic_files_of_any_size(tmp_path):
    data = movielens("1m", place(tmp_path, FILES_RECBOLE, "utf8"))
    assert data.times.tolist() == [978_300_760, 978_302_109]
    assert data.items.to_pylist() == [
        {"item_id": "10", "title": "The Net", "year": 1995, "genres": ["Action", "Sci-Fi"]},
        {"item_id": "11", "title": "Great Giving", "year": 1995, "genres": []},
    ]
    assert data.users["age"].to_pylist() == [24]
    (tmp_path / "ml-1m.item").unlink()
    (tmp_path / "ml-1m.user").unlink()
    assert movielens("1m", tmp_path).items is None


@pytest.mark.parametrize(
    ("files", "name"), [(FILES_100K, "100k"), (FILES_1M, "1m"), (FILES_CSV, "25m")]
)
def test_a_missing_file_is_named(tmp_path, files, name):
    for missing in list(files)[1:]:
        folder = place(tmp_path / missing, files)
        (folder / missing).unlink()
        with pytest.raises(FileNotFoundError, match=missing):
            movielens(name, folder)


@pytest.mark.parametrize(
    ("files", "name", "file"),
    [
        (FILES_100K, "100k", "u.data"),
        (FILES_100K, "100k", "u.item"),
        (FILES_1M, "1m", "ratings.dat"),
        (FILES_1M, "1m", "users.dat"),
        (FILES_CSV, "25m", "ratings.csv"),
        (FILES_RECBOLE, "1m", "ml-1m.inter"),
    ],
)
def test_a_truncated_file_is_named_with_its_row(tmp_path, files, name, file):
    folder = place(tmp_path, files)
    content = (folder / file).read_bytes().rstrip()
    (folder / file).write_bytes(content[: content.rindex(b"\n") + 3])
    with pytest.raises(ValueError, match=rf"{file}, row \d \(line \d\)") as error:
        movielens(name, folder)
    assert str(tmp_path) in str(error.value)
    assert "bad_rows" not in str(error.value)


def test_a_file_cut_at_the_end_of_a_line_is_reported(tmp_path, caplog):
    movielens("100k", place(tmp_path, FILES_100K))
    assert "u.data holds 2 ratings, but movielens 100k has 100,000" in caplog.text


def test_an_age_that_is_no_number_is_named(tmp_path):
    folder = place(tmp_path, FILES_100K | {"u.user": "1|young|M|technician|85711\n"})
    with pytest.raises(ValueError, match=r"u\.user, column `age`: .*young"):
        movielens("100k", folder)


def test_one_of_several_atomic_files_is_chosen_by_name(tmp_path):
    place(tmp_path, FILES_RECBOLE, "utf8")
    other = FILES_RECBOLE["ml-1m.inter"].rsplit("\n", 2)[0] + "\n"
    (tmp_path / "a.inter").write_text(other)
    assert len(movielens("1m", tmp_path)) == 2
    with pytest.raises(ValueError, match=r"2 \*\.inter files, but no ml-20m\.inter"):
        movielens("20m", tmp_path)


def test_names_and_folders_are_checked(tmp_path):
    with pytest.raises(ValueError, match="`name`='10m'; use one of 100k"):
        movielens("10m")
    with pytest.raises(FileNotFoundError, match="is not a folder"):
        movielens("100k", tmp_path / "none")
    with pytest.raises(FileNotFoundError, match="holds no MovieLens files"):
        movielens("100k", tmp_path)
    with pytest.raises(ValueError, match=r"ratings.csv is not movielens '100k'"):
        movielens("100k", place(tmp_path, FILES_CSV))
