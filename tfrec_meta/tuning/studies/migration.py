"""Converts records of schema 1, which tfrec-meta 0.1 wrote, to the current schema.

This module does not import TensorFlow.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tfrec_meta.data.protocols import ValidationProtocol
from tfrec_meta.evaluation.objectives import Objective

OBJECTIVES_OF_0_1 = {"val_ndcg_at_10": Objective.NDCG.value}
_PROTOCOLS_OF_0_1 = {
    "random part": ValidationProtocol.RANDOM,
    "by time": ValidationProtocol.TIME,
    "leave last out": ValidationProtocol.LEAVE_LAST_OUT,
    "cold users": ValidationProtocol.COLD_USERS,
    "cold items": ValidationProtocol.COLD_ITEMS,
}
_DOMAIN_OF_0_1 = "domain "  # an attribute and its value followed
_PROFILE_FIELDS_OF_0_1 = {"distinct_words_an_item": "distinct_words_per_item"}


def migrated(record: Mapping[str, Any]) -> dict[str, Any]:
    """Returns a record in the current schema.

    Headers of schema 1 named NDCG@10 "val_ndcg_at_10", described the validation protocol by a
    sentence, and had another name for a field of the profile. An unknown protocol stays as it is,
    so the record is invalid. Other records do not differ.

    Example:
        >>> from tfrec_meta.tuning.studies.migration import migrated
        >>> header = {"kind": "study", "schema": 1, "objective": "val_auc", "protocol": "by time"}
        >>> migrated(header)["protocol"]
        'time'
    """
    found = dict(record)
    if record.get("kind") != "study" or record.get("schema") != 1:
        return found
    found["schema"] = 2
    objective, protocol = record.get("objective"), record.get("protocol")
    profile = record.get("profile")
    if isinstance(objective, str):
        found["objective"] = OBJECTIVES_OF_0_1.get(objective, objective)
    if isinstance(protocol, str):
        if protocol.startswith(_DOMAIN_OF_0_1):
            found["protocol"] = ValidationProtocol.DOMAIN.value
        elif protocol in _PROTOCOLS_OF_0_1:
            found["protocol"] = _PROTOCOLS_OF_0_1[protocol].value
    if isinstance(profile, Mapping):
        found["profile"] = {
            _PROFILE_FIELDS_OF_0_1.get(name, name): value for name, value in profile.items()
        }
    return found
