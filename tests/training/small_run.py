"""A small training that the tests of this folder share."""

import numpy as np

from tfrec_meta.data import split_leave_last_out, synthetic
from tfrec_meta.features import Category, FeatureSpec
from tfrec_meta.keras import tf_keras
from tfrec_meta.models import TwoTower, TwoTowerConfig
from tfrec_meta.training import TrainingConfig, TrainingOptions, fit, seed_everything

DATA = synthetic(60, 40, 900, seed=3)
SPLIT = split_leave_last_out(DATA, validation=True)
SPEC = FeatureSpec(item=(Category("category"),), history_length=12).fit(SPLIT.train)
SHAPE = TwoTowerConfig(embedding_dim=8, user_id=True)
QUICK = TrainingConfig(epochs=3, batch_size=64, history_length=8, learning_rate=0.02)


def fresh(seed=0, shape=SHAPE, spec=SPEC):
    """Returns a newly made two-tower model."""
    seed_everything(seed)
    return TwoTower(shape, spec)


def fitted(config=QUICK, *, shape=SHAPE, data=SPLIT.train, validation=SPLIT.validation, **options):
    """Returns a fitted two-tower model, and its learning curve."""
    model = fresh(shape=shape)
    options = TrainingOptions(validation, **{"progress": False, **options})
    return model, fit(model, data, config, options)


def without_seconds(curve):
    """Returns the lines of a curve without the wall time, which no two runs share."""
    return [{k: v for k, v in line.items() if k != "seconds"} for line in curve]


def assert_same_weights(one, other):
    assert one.keys() == other.keys()
    for name, value in one.items():
        np.testing.assert_array_equal(value, other[name], err_msg=name)


class Interrupt(tf_keras.callbacks.Callback):
    """Ends a training at the start of an epoch, as Ctrl-C does."""

    def __init__(self, epoch):
        super().__init__()
        self.epoch = epoch

    def on_epoch_begin(self, epoch, logs=None):
        if epoch == self.epoch:
            raise KeyboardInterrupt
