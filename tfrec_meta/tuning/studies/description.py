"""What a study searches for, and on which data.

This module does not import TensorFlow.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from tfrec_meta.data.protocols import ValidationProtocol
from tfrec_meta.evaluation.objectives import Objective

NO_DATA: Mapping[str, str] = {"name": "", "fingerprint": "", "description": ""}


@dataclasses.dataclass(frozen=True, eq=False)
class StudyDescription:
    """The objective and the data of a study; its header records them.

    Args:
        objective: an `Objective` or its value.
        protocol: how the validation events were held out. A search learns only from prior studies
            with the same protocol.
        data: `name`, `fingerprint` and `description` of the data.
        profile: see `data_profile`; None if it is unknown.
        text_embedding: float [E] of the data's texts; None if it was not computed.
        identity: further facts that distinguish studies, ready for JSON, such as digests of the
            data. They are compared when a search continues, and are not part of the header.

    Raises:
        ValueError: for an unknown objective or protocol.
    """

    objective: Objective = Objective.NDCG
    protocol: ValidationProtocol = ValidationProtocol.GIVEN
    data: Mapping[str, str] = dataclasses.field(default_factory=lambda: dict(NO_DATA))
    profile: Mapping[str, float] | None = None
    text_embedding: Sequence[float] | None = None
    identity: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    def __post_init__(self) -> None:
        object.__setattr__(self, "objective", Objective(self.objective))
        object.__setattr__(self, "protocol", ValidationProtocol(self.protocol))
