"""The identity of a run: a folder accepts only the run that began in it."""

import dataclasses

import numpy as np
import pyarrow as pa
import pytest

from tests.training.small_run import (
    QUICK,
    SHAPE,
    SPEC,
    SPLIT,
    fresh,
)
from tfrec_meta.models import TwoTower
from tfrec_meta.training import TrainingOptions, fit


def test_refuses_the_folder_of_another_run_and_names_the_difference(resumed):
    folder = resumed[0]

    def start(model, data=SPLIT.train, config=QUICK, validation=SPLIT.validation):
        return fit(model, data, config, TrainingOptions(validation, folder, progress=False))

    with pytest.raises(ValueError, match=r"\(training.epochs, training.seed\). Use another folder"):
        start(fresh(), config=dataclasses.replace(QUICK, epochs=9, seed=7))
    with pytest.raises(ValueError, match=r"\(model.embedding_dim\)"):
        start(TwoTower(dataclasses.replace(SHAPE, embedding_dim=4), SPEC))
    other = SPLIT.train.take(np.arange(len(SPLIT.train))[::-1])  # as many events
    with pytest.raises(ValueError, match=r"\(data.events\)"):
        start(fresh(), other)
    items = pa.table({"item_id": ["new"], "category": ["new"]})
    grown = SPEC.fit(dataclasses.replace(SPLIT.train, items=items))
    with pytest.raises(ValueError, match=r"\(features.vocabularies"):
        start(TwoTower(SHAPE, grown))
    validation = SPLIT.validation.take(np.arange(len(SPLIT.validation))[::-1])  # as many events
    with pytest.raises(ValueError, match=r"\(data.validation\)"):
        start(fresh(), validation=validation)
