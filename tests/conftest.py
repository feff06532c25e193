"""What all tests share: the memory of studies is a folder of theirs, never the user's."""

import os
import shutil
import tempfile

STUDIES = "TFREC_META_STUDIES"


def pytest_configure(config):
    # In the environment, so that the processes that tests start have it too.
    os.environ[STUDIES] = config.studies = tempfile.mkdtemp(prefix="tfrec-meta-studies-")


def pytest_unconfigure(config):
    shutil.rmtree(config.studies, ignore_errors=True)
