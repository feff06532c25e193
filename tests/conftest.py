"""Shared by all tests: a private folder of studies, and groups for parallel workers."""

import os
import shutil
import tempfile

import pytest
from hypothesis import settings

import tfrec_meta  # noqa: F401  (chooses Keras 2 before a test imports TFX or KerasTuner)
from tests import store_servers

STUDIES = "TFREC_META_STUDIES"

# No time limit per example: on a busy machine a quick example can take long.
settings.register_profile("tests", deadline=None)
settings.load_profile("tests")


def pytest_configure(config):
    # An environment variable, so that processes started by tests inherit it. The user's own
    # folder of studies is never read or written.
    os.environ[STUDIES] = config.studies = tempfile.mkdtemp(prefix="tfrec-meta-studies-")


def pytest_unconfigure(config):
    shutil.rmtree(config.studies, ignore_errors=True)


@pytest.hookimpl(tryfirst=True)  # pytest-xdist's own hook reads the groups
def pytest_collection_modifyitems(items):
    """Keeps the tests of a file, and of all files with the same session fixtures, in one worker.

    The group is the folder of the `conftest.py` that defines the fixture, or else the file.
    """
    groups = {}
    for item in items:
        file = item.nodeid.partition("::")[0]
        folders = {
            definition.baseid
            for definitions in item._fixtureinfo.name2fixturedefs.values()
            for definition in definitions
            if definition.scope == "session" and definition.baseid.startswith("tests")
        }
        groups.setdefault(file, file)
        if folders:
            groups[file] = min(folders)
    for item in items:
        group = groups[item.nodeid.partition("::")[0]]
        item.add_marker(pytest.mark.xdist_group(group))


@pytest.fixture(scope="session")
def s3_url():
    """The URL of an S3 server with an empty bucket, for the whole session."""
    with store_servers.s3_server() as url:
        yield url


@pytest.fixture
def s3(s3_url, monkeypatch):
    """`s3://shop`, an empty bucket, with the environment of its server."""
    environment = {
        "AWS_ENDPOINT_URL": s3_url,
        "AWS_ACCESS_KEY_ID": "reader",
        "AWS_SECRET_ACCESS_KEY": "secret",
        "AWS_EC2_METADATA_DISABLED": "true",
        "TFREC_META_STORE_TIMEOUT": "20",
    }
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    for name in ("AWS_REGION", "AWS_DEFAULT_REGION", "AWS_ENDPOINT_URL_S3", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    assert store_servers.request(f"{s3_url}/moto-api/reset", "POST") == 200
    assert store_servers.request(f"{s3_url}/{store_servers.BUCKET}", "PUT") == 200
    return f"s3://{store_servers.BUCKET}"


@pytest.fixture
def s3_proxy(s3, s3_url, monkeypatch):
    """A proxy before the server of `s3`, whose `rule` makes faults."""
    proxy = store_servers.Proxy(s3_url)
    monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.url)
    yield proxy
    proxy.close()


@pytest.fixture(scope="session")
def gs_url():
    """The URL of a server of Google Cloud Storage, for the whole session."""
    with store_servers.gs_server() as url:
        yield url


@pytest.fixture
def gs(gs_url, monkeypatch):
    """`gs://shop`, an empty bucket, with the environment of its server."""
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", gs_url)
    monkeypatch.setenv("TFREC_META_STORE_TIMEOUT", "20")
    assert store_servers.request(f"{gs_url}/wipe?keep-buckets=True", "GET") == 200
    return f"gs://{store_servers.BUCKET}"
