"""Descriptions of studies: objective and protocol are enums."""

import pytest

from tfrec_meta.data import ValidationProtocol
from tfrec_meta.evaluation import Objective
from tfrec_meta.tuning import StudyDescription


def test_objective_and_protocol_are_read_by_value():
    study = StudyDescription("val_rmse", "leave-last-out")
    assert study.objective is Objective.RMSE
    assert study.protocol is ValidationProtocol.LEAVE_LAST_OUT


def test_an_unknown_objective_or_protocol_is_refused():
    with pytest.raises(ValueError, match="val_map"):
        StudyDescription("val_map")
    with pytest.raises(ValueError, match="every second Tuesday"):
        StudyDescription(protocol="every second Tuesday")
