"""The serving contract's own rules."""

import pytest

from tfrec_meta.export.signatures import version_of


@pytest.mark.parametrize(
    "name, version",
    [
        ("1", 1),
        ("0012", 12),
        (str(2**63 - 1), 2**63 - 1),
        (str(2**63), None),
        ("0", None),
        ("-1", None),
        ("1.tmp", None),
        ("", None),
        ("²", None),
        ("٣", None),
    ],
)
def test_what_is_a_version(name, version):
    assert version_of(name) == version
