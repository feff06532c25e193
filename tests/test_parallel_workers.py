"""Parallel workers: the tests of a file share its fixtures, so one worker runs all of them."""

import os

import pytest


@pytest.mark.skipif("PYTEST_XDIST_WORKER" not in os.environ, reason="needs parallel workers")
def test_the_group_of_a_file_reaches_the_scheduler(request):
    assert request.node.nodeid.endswith("@tests/test_parallel_workers.py")
