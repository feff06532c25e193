import pytest

from tfrec_meta.data.privacy.column_names import kind_by_name, name_words
from tfrec_meta.data.privacy.personal_data import PersonalData as P


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("customerEMail_2", ["customer", "e", "mail"]),
        ("IPAddress", ["ip", "address"]),
        ("Prénom", ["prenom"]),
        ("STRASSE", ["strasse"]),
        ("Straße", ["strasse"]),
        ("Date of birth", ["date", "of", "birth"]),
        ("123", []),
    ],
)
def test_splits_names_into_words(name, words):
    assert name_words(name) == words


@pytest.mark.parametrize(
    ("kind", "names"),
    [
        (P.EMAIL, "email E-Mail e_mail eMailAddress customer_email EMAIL1 user.mail correo 邮箱"),
        (P.PHONE, "phone PhoneNumber mobile tel home_phone msisdn Telefon téléphone cell_phone"),
        (P.NAME, "name first_name LastName surname user_name displayName Vorname nom 氏名"),
        (P.ADDRESS, "address billing_address street zip zip_code postCode PLZ Straße home-address"),
        (P.BIRTH_DATE, "birth_date dateOfBirth DOB birthday Geburtsdatum fecha_nacimiento"),
        (P.IP, "ip client_ip IPAddress last_ip ipv4"),
        (P.ACCOUNT, "card_number creditCard IBAN bank_account account_no"),
        (P.IDENTITY, "ssn passport_no national_id tax_id drivers_license"),
    ],
)
def test_recognizes_common_spellings_in_a_table_of_users(kind, names):
    assert {name: kind_by_name(name, "users") for name in names.split()} == dict.fromkeys(
        names.split(), kind
    )


@pytest.mark.parametrize(
    "name",
    [
        "age",
        "gender",
        "segment",
        "occupation",
        "country",
        "city",
        "plan_name",
        "company_name",
        "city_name",
        "user_id",
        "last_login",
        "email_domain",
        "email_opt_in",
        "phone_model",
        "zipped",
        "tip",
        "vip",
        "shipping_method",
        "signup_date",
        "score",
        "123",
    ],
)
def test_other_columns_of_users_are_not_personal(name):
    assert kind_by_name(name, "users") is None


@pytest.mark.parametrize(
    "name",
    [
        "title",
        "name",
        "product_name",
        "brand",
        "author",
        "artist",
        "director",
        "address",
        "street",
        "zip",
        "city",
        "birthday",
        "ip",
        "display_name",
        "family_name",
        "model_name",
    ],
)
def test_names_and_addresses_of_items_are_not_those_of_people(name):
    assert kind_by_name(name, "items") is None


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("seller_email", P.EMAIL),
        ("contact_name", P.NAME),
        ("last_name", P.NAME),
        ("owner_address", P.ADDRESS),
    ],
)
def test_items_can_have_columns_about_people(name, kind):
    assert kind_by_name(name, "items") is kind


@pytest.mark.parametrize(("name", "kind"), [("customer_name", P.NAME), ("name", None)])
def test_a_name_in_the_events_needs_a_person(name, kind):
    assert kind_by_name(name, "events") is kind
