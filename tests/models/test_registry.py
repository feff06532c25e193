"""The registry of model families."""

import subprocess
import sys

import pytest

import tfrec_meta.models as models
from tfrec_meta.models.registry import FAMILIES


def test_names_are_known_without_tensorflow():
    code = (
        "import sys\n"
        "from tfrec_meta.models import FAMILIES\n"
        "assert 'ials' in FAMILIES and 'ials' in list(FAMILIES)\n"
        "print('tensorflow' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


@pytest.mark.parametrize("name", sorted(FAMILIES))
def test_each_line_names_the_family_and_its_config(name):
    family = FAMILIES[name]
    assert family.family == name
    assert family.__module__ == f"tfrec_meta.models.families.{name}"
    assert getattr(models, family.__name__) is family
    assert getattr(models, f"{family.__name__}Config") is family.config_type


def test_an_unknown_family_is_no_key():
    assert "oracle_bones" not in FAMILIES
    with pytest.raises(KeyError, match="oracle_bones"):
        FAMILIES["oracle_bones"]
    with pytest.raises(AttributeError, match="OracleBones"):
        models.OracleBones  # noqa: B018
