"""Fixtures of the training tests."""

import pytest

from tests.training.small_run import Interrupt, fitted


@pytest.fixture(scope="session")
def uninterrupted():
    """State and curve of a small run that nothing interrupted."""
    model, curve = fitted()
    return model.state(), curve


@pytest.fixture(scope="session")
def resumed(tmp_path_factory):
    """Folder, state and curve of a run that was interrupted twice and then resumed."""
    folder = tmp_path_factory.mktemp("run")
    for epoch in (1, 2):
        with pytest.raises(KeyboardInterrupt):
            fitted(folder=folder, callbacks=[Interrupt(epoch)])
    model, curve = fitted(folder=folder)
    return folder, model.state(), curve
