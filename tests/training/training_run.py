"""One training in a process of its own, for tests with several devices or machines.

The arguments are the value of `distribute` and the folder of the run, "" for none. It prints the
curve and the sum of the absolute values of all weights as JSON.
"""

import dataclasses
import json
import sys

import numpy as np
import tensorflow as tf

from tfrec_meta.data import split_leave_last_out, synthetic
from tfrec_meta.features import FeatureSpec
from tfrec_meta.models import TwoTower, TwoTowerConfig
from tfrec_meta.training import TrainingConfig, TrainingOptions, fit, seed_everything
from tfrec_meta.training.distribution import distribution_strategy

SPLIT = split_leave_last_out(synthetic(60, 40, 900, seed=3), validation=True)
SPEC = FeatureSpec(history_length=8).fit(SPLIT.train)
RECIPE = TrainingConfig(
    epochs=3, batch_size=64, history_length=8, learning_rate=0.02, optimizer="lazy_adamw", seed=1
)


class FullSoftmax(TwoTower):
    """Softmax over all items: the loss of a batch is the mean of the losses of its parts."""

    def compute_loss(self, inputs, training=False):
        items = self.embed_item(self._known_item(tf.range(1, len(self.spec.items))))
        logits = tf.matmul(self.embed_query(inputs), items, transpose_b=True)
        losses = tf.nn.sparse_softmax_cross_entropy_with_logits(inputs["item_id"] - 1, logits)
        return tf.reduce_mean(losses)


def run(distribute, folder=None):
    """Returns the curve without seconds, and the sum of the absolute values of all weights."""
    config = dataclasses.replace(RECIPE, distribute=distribute)
    strategy = distribution_strategy(distribute)
    seed_everything(config.seed)
    with strategy.scope():
        model = FullSoftmax(TwoTowerConfig(embedding_dim=8, user_id=True), SPEC)
    options = TrainingOptions(SPLIT.validation, folder, progress=False)
    curve = fit(model, SPLIT.train, config, options)
    curve = [{k: v for k, v in line.items() if k != "seconds"} for line in curve]
    return {"curve": curve, "size": float(sum(np.abs(v).sum() for v in model.state().values()))}


if __name__ == "__main__":
    if sys.argv[1] == "mirrored":
        (cpu,) = tf.config.list_physical_devices("CPU")
        two = [tf.config.LogicalDeviceConfiguration()] * 2
        tf.config.set_logical_device_configuration(cpu, two)
    print(json.dumps(run(sys.argv[1], sys.argv[2] or None)))
