"""Shared by all tests: a private folder of studies, and groups for parallel workers."""

import os
import shutil
import tempfile

import pytest
from hypothesis import settings

import tfrec_meta  # noqa: F401  (chooses Keras 2 before a test imports TFX or KerasTuner)

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
