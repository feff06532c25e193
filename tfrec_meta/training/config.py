"""The training recipe."""

from __future__ import annotations

import dataclasses
from typing import Annotated, Literal

from tfrec_meta.checks import (
    FiniteNonNegativeFloat,
    FinitePositiveFloat,
    Seed,
    between,
    check_fields,
    share,
    whole_number,
)
from tfrec_meta.errors import ParameterError
from tfrec_meta.training.distribution import Distribute

OptimizerName = Literal[
    "auto", "adamw", "lazy_adamw", "lazy_adam", "adagrad", "lazy_adagrad", "row_wise_adagrad"
]


@dataclasses.dataclass(frozen=True)
class TrainingConfig:
    """The training recipe. The shape of the model is in the model's own config.

    Args:
        epochs: passes over the events. The learning rate rises linearly over the first 5% of the
            steps, then falls to 0 along a cosine.
        batch_size: events per batch. In-batch negatives are the other events of the batch.
        rows: what one training row is. "events": one event with its own history. "windows": up to
            `history_length` consecutive events of a user, each predicted from those before it in
            the window. Windows train order-aware history encoders in much less time.
        optimizer: "adamw" and "adagrad" are those of tf_keras. "lazy_adamw", "lazy_adam",
            "lazy_adagrad" and "row_wise_adagrad" (`tfrec_meta.training.optimizers`) update only
            the rows of an embedding table that occur in the batch. "auto" chooses "lazy_adamw" for
            tables of 100,000 rows or more, and "adamw" otherwise.
        learning_rate: the highest learning rate of the schedule.
        weight_decay: decoupled weight decay, multiplied by the learning rate (Loshchilov and
            Hutter, ICLR 2019). Used by "adamw" and "lazy_adamw" only.
        history: which events make up the history of a training event. "earlier": the user's
            strictly earlier events, as at serving time. "leave_one_out": all other events of the
            user, for data whose time order has no meaning. "auto": "leave_one_out" for events of a
            random split (`Interactions.sampled`), "earlier" otherwise.
        history_length: the largest number of items in a history during training: the latest ones,
            or with "leave_one_out" a new sample in each epoch. Limited by the FeatureSpec.
        history_dropout: share of the history items that are hidden at random, in [0, 1).
        user_dropout: share of the queries whose user id is hidden, in [0, 1). It trains the model
            for unknown users.
        user_balance: the weight of an event is (number of events of its user) ** -user_balance, so
            that a few active users do not dominate. 0 weights all events equally.
        history_crop: share of the rows whose history is cut to a random contiguous part.
        history_reorder: share of the rows in which a random contiguous part is shuffled. Both
            augmentations are from Xie et al., "Contrastive Learning for Sequential
            Recommendation", ICDE 2022.
        accumulation: batches whose mean gradient makes one step, for large steps in little memory.
        l2: weight of the L2 penalty, which is half the sum of the squared weights without biases.
            Of embedding tables, only the rows in the batch count. Unlike `weight_decay`, the
            penalty is part of the loss.
        adversarial_weight: weight of the loss under the worst small change of the embeddings (He et
            al., "Adversarial Personalized Ranking", SIGIR 2018). 0 turns it off. It doubles the
            time of a step.
        adversarial_size: the length of that change per embedding row.
        average_decay: decay of a running mean of the weights, which validation and the finished
            model use, in [0, 1), for example 0.99. 0 turns it off. The mean starts at the initial
            weights.
        mixed_precision: whether TensorFlow may compute matrix products in bfloat16.
        jit_compile: whether XLA compiles the training step.
        distribute: "mirrored" divides each batch among the GPUs of this machine, "multi_worker"
            among the GPUs of several machines. With "parameter_server", workers train
            asynchronously. The latter two read the TF_CONFIG environment variable. In-batch
            negatives come from the same replica only.
        patience: the number of epochs without improvement of the validation metric (the model's
            `objective`) after which training stops. 0 never stops early.
        seed: seed of the event order and of dropout; in `tfrec_meta.train` also of the initial
            weights.

    Raises:
        ValueError: if a value is out of range, or two values exclude each other.

    Example:
        >>> import tfrec_meta as tm
        >>> tm.TrainingConfig(epochs=3, batch_size=1024).learning_rate
        0.005
    """

    epochs: Annotated[int, whole_number(1)] = 8
    # A batch of one event has no negatives: its loss is 0 whatever the model predicts.
    batch_size: Annotated[int, whole_number(2)] = 512
    rows: Literal["events", "windows"] = "events"
    optimizer: OptimizerName = "auto"
    learning_rate: FinitePositiveFloat = 0.005
    weight_decay: FiniteNonNegativeFloat = 0.1
    history: Literal["auto", "earlier", "leave_one_out"] = "auto"
    history_length: Annotated[int, whole_number(1)] = 100
    history_dropout: Annotated[float, share()] = 0.0
    user_dropout: Annotated[float, share()] = 0.1
    user_balance: FiniteNonNegativeFloat = 0.5
    history_crop: Annotated[float, between(0, 1)] = 0.0
    history_reorder: Annotated[float, between(0, 1)] = 0.0
    accumulation: Annotated[int, whole_number(1)] = 1
    l2: FiniteNonNegativeFloat = 0.0
    adversarial_weight: FiniteNonNegativeFloat = 0.0
    adversarial_size: FiniteNonNegativeFloat = 0.1
    average_decay: Annotated[float, share()] = 0.0
    mixed_precision: bool = False
    jit_compile: bool = False
    distribute: Distribute = "none"
    patience: Annotated[int, whole_number(0)] = 3
    seed: Seed = 42

    def __post_init__(self) -> None:
        check_fields(self)
        if self.average_decay and self.optimizer not in ("auto", "adamw", "adagrad"):
            raise ParameterError(
                f"`average_decay`={self.average_decay} averages whole tables in each step, but "
                f"`optimizer`={self.optimizer!r} updates single rows. Use 0, or 'adamw'.",
                "average_decay",
                "optimizer",
            )
        if self.adversarial_weight and self.distribute != "none":
            raise ParameterError(
                f"`adversarial_weight`={self.adversarial_weight} changes embeddings within a step, "
                f"which replicas cannot do (`distribute`={self.distribute!r}). Use 0, or 'none'.",
                "adversarial_weight",
                "distribute",
            )
        if self.rows == "windows" and self.history == "leave_one_out":
            raise ParameterError(
                "`rows`='windows' predicts each event from earlier ones, but `history`="
                "'leave_one_out' takes all other events. Use 'earlier' or 'auto'.",
                "rows",
                "history",
            )
