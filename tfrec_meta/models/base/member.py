"""Members: the description of the models that an ensemble or a two-stage model consists of."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from typing import Any

from tfrec_meta.models.base.configs import config_fields


@dataclasses.dataclass(frozen=True)
class Member:
    """Describes how one member is made, in plain values, as JSON and YAML hold them.

    Args:
        family: a key of `tfrec_meta.models.FAMILIES`.
        model: fields of the family's config; the others keep their defaults.
        training: fields of the training recipe; the others are taken from the recipe of the whole.

    Raises:
        ValueError: if `model` or `training` is not made of plain values.

    Example:
        >>> import tfrec_meta as tm
        >>> tm.Member.of("ials") == tm.Member("ials", {}, {})
        True
    """

    family: str
    model: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    training: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in ("model", "training"):
            try:
                # In the form that JSON gives back, so that a reread config equals the written one.
                fields = config_fields(json.loads(json.dumps(dict(getattr(self, name)))))
            except (TypeError, ValueError) as error:
                raise ValueError(
                    f"`{name}`={getattr(self, name)!r} of a member is not made of plain values: "
                    f"{error}. Give fields by name, as {{'embedding_dim': 64}}."
                ) from error
            object.__setattr__(self, name, fields)

    @classmethod
    def of(cls, value: Member | Mapping[str, Any] | str) -> Member:
        """Returns a member from a member, its fields, or the name of a family with its defaults."""
        if isinstance(value, Member):
            return value
        return cls(value) if isinstance(value, str) else cls(**value)
