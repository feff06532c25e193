"""The rules of the serving contract."""

import pytest

from tfrec_meta.export.signatures import version_of


@pytest.mark.parametrize(
    "name, version",
    [
        ("1", 1),
        ("12", 12),
        ("0012", None),
        ("01", None),
        ("1" * 5000, None),
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
def test_version_of_accepts_positive_int64_numbers_in_ascii_digits(name, version):
    assert version_of(name) == version
