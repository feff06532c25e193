"""The ids of the pipeline's nodes: in its graph, in the records of a run, and on the run's page.

Imports neither TFX nor TensorFlow.
"""

from __future__ import annotations

import enum
from typing import NamedTuple


class NodeId(enum.StrEnum):
    """The id of a node. Compiled pipelines, metadata and records store the value."""

    INTERACTIONS_GEN = "InteractionsGen"
    USERS_GEN = "UsersGen"
    ITEMS_GEN = "ItemsGen"
    INTERACTIONS_STATISTICS = "InteractionsStatistics"
    USERS_STATISTICS = "UsersStatistics"
    ITEMS_STATISTICS = "ItemsStatistics"
    LAST_ACCEPTED = "LastAccepted"
    SCHEMAS = "Schemas"
    INTERACTIONS_VALIDATOR = "InteractionsValidator"
    USERS_VALIDATOR = "UsersValidator"
    ITEMS_VALIDATOR = "ItemsValidator"
    DATA_GATE = "DataGate"
    HISTORIES = "Histories"
    SPLIT_GATE = "SplitGate"
    LAST_TRANSFORM = "LastTransform"
    TRANSFORM = "Transform"
    TUNER = "Tuner"
    LAST_STRATEGY = "LastStrategy"
    LAST_BASE = "LastBase"
    TRAINER = "Trainer"
    EVALUATOR = "Evaluator"
    LAST_BLESSED = "LastBlessed"
    RANKING_GATE = "RankingGate"
    INFRA_VALIDATOR = "InfraValidator"
    PUSHER = "Pusher"

    @property
    def is_resolver(self) -> bool:
        """Whether the node looks up artifacts of earlier runs, and makes none."""
        return self in _RESOLVERS


_RESOLVERS = {
    NodeId.LAST_ACCEPTED,
    NodeId.LAST_TRANSFORM,
    NodeId.LAST_STRATEGY,
    NodeId.LAST_BASE,
    NodeId.LAST_BLESSED,
}


class TableNodes(NamedTuple):
    """The nodes that read and check one table."""

    gen: NodeId
    statistics: NodeId
    validator: NodeId


NODES_OF_TABLES = {
    "interactions": TableNodes(
        NodeId.INTERACTIONS_GEN, NodeId.INTERACTIONS_STATISTICS, NodeId.INTERACTIONS_VALIDATOR
    ),
    "users": TableNodes(NodeId.USERS_GEN, NodeId.USERS_STATISTICS, NodeId.USERS_VALIDATOR),
    "items": TableNodes(NodeId.ITEMS_GEN, NodeId.ITEMS_STATISTICS, NodeId.ITEMS_VALIDATOR),
}
