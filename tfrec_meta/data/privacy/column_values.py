"""Recognizes personal data by its form: e-mail, IP and phone numbers, cards, accounts."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Sequence

from tfrec_meta.data.privacy.personal_data import PersonalData, Table

_LONGEST = 320  # characters; longer values are texts
_EMAIL = re.compile(r"(?:[^<>@]*<)?[^@\s,;<>\"]+@[\w-]+(?:\.[\w-]+)*\.[^\W\d_]{2,}>?")
_PLUS_PHONE = re.compile(r"\+\d[\d ()./-]{6,20}")
_US_PHONE = re.compile(r"(?:1[ .-])?(?:\(\d{3}\) ?|\d{3}[ .-])\d{3}[ .-]\d{4}")
_SOCIAL_SECURITY = re.compile(r"\d{3}-\d{2}-\d{4}")
_IBAN = re.compile(r"[A-Z]{2}\d{2}[A-Z0-9]{11,30}")
_FLAGS = frozenset(
    ("yes", "no", "y", "n", "true", "false", "t", "f", "0", "1", "on", "off", "ja", "nein", "oui")
)


def kind_by_values(values: Sequence[str], table: Table) -> PersonalData | None:
    """Returns what most of the values look like; None if they look like nothing personal.

    Args:
        values: a sample of a column, without missing ones.
        table: which table has the column. Phone numbers of shops, and codes of items that look like
            phone numbers or addresses on the network, are not those of people.
    """
    for kind, looks_so, share, fewest, also_items in _FORMS:
        if table == "items" and not also_items:
            continue
        found = sum(map(looks_so, values))
        if found and len(values) >= fewest and found >= share * len(values):
            return kind
    return None


def fits(kind: PersonalData, values: Sequence[str]) -> bool:
    """Returns whether values can be what the name of their column says.

    Args:
        kind: by the name.
        values: a sample of the column, without missing ones.
    """
    if not values or all(value.lower() in _FLAGS for value in values):
        return False
    if kind is PersonalData.EMAIL:  # hashes and lists too, but not how often somebody wants mail
        return any("@" in value for value in values) or len(set(values)) > len(values) / 2 > 1
    if kind in (PersonalData.NAME, PersonalData.ADDRESS):
        letters = sum(any(sign.isalpha() for sign in value) for value in values)
        return kind is PersonalData.ADDRESS or letters >= len(values) / 2
    digits = {PersonalData.PHONE: 6, PersonalData.BIRTH_DATE: 4, PersonalData.IP: 1}.get(kind, 3)
    having = sum(sum(map(str.isdigit, value)) >= digits for value in values)
    return having >= len(values) / 2


def _is_email(value: str) -> bool:
    return len(value) <= _LONGEST and _EMAIL.fullmatch(value) is not None


def _is_ip(value: str) -> bool:
    try:
        address = ipaddress.ip_address(value)
    except ValueError:
        return False
    # Versions such as 1.10.0.2 have the form of an IPv4 address, but smaller numbers.
    return address.version == 6 or max(address.packed) > 99


def _is_phone(value: str) -> bool:
    if _US_PHONE.fullmatch(value):
        return True
    digits = sum(map(str.isdigit, value))
    return _PLUS_PHONE.fullmatch(value) is not None and 8 <= digits <= 15


def _is_iban(value: str) -> bool:
    """Checks the check digits, too (ISO 13616)."""
    plain = value.replace(" ", "").upper()
    if len(value) > _LONGEST or not _IBAN.fullmatch(plain):
        return False
    moved = plain[4:] + plain[:4]
    return int("".join(str(int(sign, 36)) for sign in moved)) % 97 == 1


def _is_card(value: str) -> bool:
    """Checks the check digit, too (ISO/IEC 7812); that of barcodes is computed in another way."""
    plain = value.replace(" ", "").replace("-", "")
    if not (13 <= len(plain) <= 19 and plain.isascii() and plain.isdigit() and plain[0] in "3456"):
        return False
    doubled = [int(digit) * (1 + place % 2) for place, digit in enumerate(reversed(plain))]
    return sum(digit - 9 * (digit > 9) for digit in doubled) % 10 == 0


def _is_social_security(value: str) -> bool:
    return _SOCIAL_SECURITY.fullmatch(value) is not None


# Kind, form, the share of values that must have it, the fewest values, and whether items count.
_FORMS: tuple[tuple[PersonalData, Callable[[str], bool], float, int, bool], ...] = (
    (PersonalData.EMAIL, _is_email, 0.1, 1, True),
    (PersonalData.ACCOUNT, _is_iban, 0.5, 1, True),
    (PersonalData.ACCOUNT, _is_card, 0.9, 5, True),
    (PersonalData.IP, _is_ip, 0.5, 1, False),
    (PersonalData.PHONE, _is_phone, 0.5, 1, False),
    (PersonalData.IDENTITY, _is_social_security, 0.9, 5, False),
)
