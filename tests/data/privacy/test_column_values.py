import pytest

from tfrec_meta.data.privacy.column_values import fits, kind_by_values
from tfrec_meta.data.privacy.personal_data import PersonalData as P

# Numbers that standards and card networks publish as examples.
CARDS = [
    "4111 1111 1111 1111",
    "5555555555554444",
    "378282246310005",
    "6011111111111117",
    "4012-8888-8888-1881",
]


@pytest.mark.parametrize(
    ("kind", "values"),
    [
        (P.EMAIL, ["ann.lee+shop@mail.example", "bob@sub.shop.example"]),
        (P.EMAIL, ["Ann Lee <ann@mail.example>", "unknown"]),
        (P.EMAIL, ["ann@mail.example", *(f"login{k}" for k in range(9))]),  # one in ten
        (P.PHONE, ["+44 20 7946 0958", "+1 (555) 010-9999"]),
        (P.PHONE, ["(555) 010-9999", "555-010-1234"]),
        (P.IP, ["203.0.113.7", "2001:db8::1"]),
        (P.ACCOUNT, ["GB82 WEST 1234 5698 7654 32", "DE89370400440532013000"]),
        (P.ACCOUNT, CARDS),
        (P.IDENTITY, ["078-05-1120", "219-09-9999", "457-55-5462", "123-45-6789", "987-65-4321"]),
    ],
)
def test_recognizes_values_by_their_form(kind, values):
    assert kind_by_values(values, "users") is kind


@pytest.mark.parametrize(
    "values",
    [
        [],
        ["ann", "bob"],
        ["@ann", "mail at example"],
        ["1.10.0.2", "2.4.16.0"],  # versions
        ["GB82 WEST 1234 5698 7654 33"],  # wrong check digits
        [str(4006381333931 + k) for k in range(20)],  # barcodes
        ["4111111111111112"] * 5,
        CARDS[:1],  # one number may pass the check by chance
        ["2024-05-01", "2024-05-02"],
        ["a" * 5000 + "@mail.example"],
        ["1714521600", "1714521601"],
        ["ann@mail.example", *(f"login{k}" for k in range(10))],
    ],
)
def test_other_values_are_not_personal(values):
    assert kind_by_values(values, "users") is None


def test_codes_of_items_are_not_phone_numbers_or_network_addresses():
    assert kind_by_values(["555-010-1234"], "items") is None
    assert kind_by_values(["203.0.113.7"], "items") is None
    assert kind_by_values(["shop@mail.example"], "items") is P.EMAIL


@pytest.mark.parametrize(
    ("kind", "values", "expected"),
    [
        (P.EMAIL, ["yes", "no"], False),
        (P.EMAIL, ["daily", "weekly", "daily", "daily"], False),
        (P.EMAIL, ["5d41402abc4b2a76", "7d793037a0760186", "9d4e1e23bd5b7270"], True),  # hashes
        (P.PHONE, ["iPhone 12", "Pixel 8"], False),
        (P.PHONE, ["020 7946 0958"], True),
        (P.NAME, ["12", "13"], False),
        (P.NAME, ["Ann", "Zoë"], True),
        (P.ADDRESS, ["02139", "10115"], True),
        (P.ACCOUNT, ["visa", "mastercard"], False),
        (P.ACCOUNT, ["**** 1111"], True),
        (P.BIRTH_DATE, ["01.02.1990"], True),
        (P.BIRTH_DATE, ["monday"], False),
        (P.IP, [], False),
    ],
)
def test_a_name_counts_with_values_that_fit_it(kind, values, expected):
    assert fits(kind, values) is expected
