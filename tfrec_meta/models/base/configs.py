"""Configs of models and recipes from plain records, as JSON and YAML hold them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tfrec_meta.io.records import create


def config_fields(record: Mapping[str, Any]) -> dict[str, Any]:
    """Returns config fields from JSON, with lists turned back into tuples."""
    return {key: tuple(v) if isinstance(v, list) else v for key, v in record.items()}


def read_config(kind: type, record: Mapping[str, Any]) -> Any:
    """Creates a config from some of its fields. The other fields keep their defaults.

    Args:
        kind: the config dataclass.
        record: values by field name, as JSON or YAML give them.

    Raises:
        ValueError: for an unknown field, or a value of the wrong type or out of range; the message
            names the field.

    Example:
        >>> from tfrec_meta.models.base.configs import read_config
        >>> from tfrec_meta.models import TwoTowerConfig
        >>> read_config(TwoTowerConfig, {"hidden": [128]}).hidden
        (128,)
    """
    is_record = isinstance(record, Mapping)
    return create(kind, config_fields(record) if is_record else record)
