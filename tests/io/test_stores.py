"""Object stores: files, time limits, and errors that name the way out."""

import pytest

from tests.store_servers import BROKEN, DENIED
from tfrec_meta.io.stores import (
    RemotePath,
    StoreError,
    StoreUnavailable,
    any_path,
    local_path,
    opened,
    size_of,
)


@pytest.fixture(params=["s3", "gs"])
def bucket(request):
    """An empty bucket of each kind of store."""
    return request.getfixturevalue(request.param)


def test_what_is_written_is_listed_and_read(bucket, tmp_path):
    folder = RemotePath(f"{bucket}/logs/")
    (folder / "a.txt").write(b"one")
    (tmp_path / "b").write_bytes(b"two!")
    (folder / "deep/b.txt").upload(tmp_path / "b")
    assert {name: file.size for name, file in folder.files().items()} == {
        "a.txt": 3,
        "deep/b.txt": 4,
    }
    assert list(folder.files(recursive=False)) == ["a.txt"]
    assert (folder / "a.txt").read() == b"one"
    (folder / "deep" / "b.txt").download(tmp_path / "c")
    assert (tmp_path / "c").read_bytes() == b"two!"
    assert (size_of(folder / "a.txt"), (folder / "a.txt").is_file()) == (3, True)
    assert not (folder / "no.txt").is_file()


def test_parts_of_a_file_are_read(s3):  # the emulator of Google's store has none
    path = RemotePath(f"{s3}/a.txt")
    path.write(b"two!")
    with opened(path, random=True) as file:
        file.seek(2)
        assert file.read(2) == b"o!"


def test_a_folder_is_removed_with_its_files(bucket):
    folder = RemotePath(f"{bucket}/logs")
    for name in ("a", "deep/b"):
        (folder / name).write(b"x")
    folder.remove()
    folder.remove()  # is gone already
    assert folder.files() == {}


def test_a_missing_file_is_named(bucket):
    path = RemotePath(f"{bucket}/no.csv")
    for use in (path.read, path.size):
        with pytest.raises(FileNotFoundError, match=rf"{path} does not exist; check the path\."):
            use()


def test_a_missing_bucket_is_named(bucket):
    path = RemotePath(f"{bucket}-of-others/a.csv")
    for use in (path.files, lambda: path.write(b"")):
        with pytest.raises(StoreError, match=r"there is no bucket 'shop-of-others'; create it"):
            use()


def test_a_local_file_that_is_missing_is_no_error_of_the_store(s3, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no\.txt"):
        RemotePath(f"{s3}/a").upload(tmp_path / "no.txt")


def test_refused_credentials_say_where_they_come_from(s3, s3_proxy):
    path = RemotePath(f"{s3}/a.csv")
    s3_proxy.rule = lambda method, path: DENIED
    for use in (path.read, path.files, path.size, lambda: path.write(b"x")):
        with pytest.raises(StoreError, match=r"refused the credentials .*AWS_ACCESS_KEY_ID"):
            use()
    assert not isinstance(StoreError("x"), StoreUnavailable)


def test_a_failing_store_is_asked_three_times(s3, s3_proxy):
    s3_proxy.rule = lambda method, path: BROKEN
    with pytest.raises(StoreUnavailable, match=r"did not answer after 3 attempts .*500"):
        RemotePath(f"{s3}/a.csv").size()
    assert len(s3_proxy.seen) == 3


def test_a_file_whose_writing_is_stopped_is_not_there(bucket):
    path = RemotePath(f"{bucket}/a.csv")

    def write_half():
        with path._written() as file:
            file.write(b"half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_half()
    assert not path.is_file()


def test_a_passing_failure_is_not_seen(s3, s3_proxy):
    path = RemotePath(f"{s3}/a.csv")
    path.write(b"x")
    failures = [BROKEN]
    s3_proxy.rule = lambda method, path: failures.pop() if failures else None
    assert path.read() == b"x"


def test_a_slow_store_is_waited_for(s3, s3_proxy):
    path = RemotePath(f"{s3}/a.csv")
    path.write(b"x")
    s3_proxy.rule = lambda method, path: 0.3
    assert path.read() == b"x"


@pytest.mark.slow  # three attempts, each with a limit of one second
def test_a_store_that_is_too_slow_is_given_up(s3, s3_proxy, monkeypatch):
    monkeypatch.setenv("TFREC_META_STORE_TIMEOUT", "1")
    s3_proxy.rule = lambda method, path: 6.0
    with pytest.raises(StoreUnavailable, match=r"raise TFREC_META_STORE_TIMEOUT, the limit of 1 s"):
        RemotePath(f"{s3}/a.csv").size()
    assert len(s3_proxy.seen) == 3


def test_nobody_listens(s3, monkeypatch):
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    with pytest.raises(StoreUnavailable, match="check AWS_ENDPOINT_URL"):
        RemotePath(f"{s3}/a.csv").read()


@pytest.mark.parametrize("secret", ["hidden-key@shop", "hid/den-key@shop", "hidden-key/shop"])
def test_credentials_in_a_url_are_refused_and_not_shown(secret):
    with pytest.raises(ValueError, match="set them in the environment") as error:
        RemotePath(f"s3://reader:{secret}/a.csv")
    assert "hid" not in str(error.value)
    assert "den-key" not in str(error.value)


@pytest.mark.parametrize("url", ["s3://", "s3:///a.csv", "gs://shop/../a", "http://shop/a"])
def test_urls_of_nothing_are_refused(url):
    with pytest.raises(ValueError, match=r"is not the URL|has '\.\.'"):
        RemotePath(url)


def test_schemes_are_known_in_any_case():
    assert any_path("S3://shop/A.csv") == RemotePath("s3://shop/A.csv")
    for url in ("https://shop/a.csv", "az://shop/a.csv", "file:///a.csv", "FILE:///a.csv"):
        with pytest.raises(ValueError, match="cannot be read; use a local path, s3://BUCKET"):
            any_path(url)


def test_a_time_limit_that_is_no_number_is_refused(s3, monkeypatch):
    monkeypatch.setenv("TFREC_META_STORE_TIMEOUT", "soon")
    with pytest.raises(ValueError, match="TFREC_META_STORE_TIMEOUT='soon'; use a number"):
        RemotePath(f"{s3}/a.csv").read()


def test_local_paths_stay_paths(tmp_path):
    (tmp_path / "a").write_bytes(b"abc")
    path = any_path(str(tmp_path / "a"))
    assert path == tmp_path / "a"
    assert size_of(path) == 3
    for random in (False, True):
        with opened(path, random=random) as file:
            assert file.read() == b"abc"


def test_a_folder_of_this_machine_is_no_url(tmp_path):
    assert local_path(str(tmp_path), "a run folder") == tmp_path
    with pytest.raises(ValueError, match="s3://shop/run is a URL, but a run folder is on this"):
        local_path("s3://shop/run", "a run folder")
