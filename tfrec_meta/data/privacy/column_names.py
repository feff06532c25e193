"""Recognizes columns of personal data by their names, in common spellings.

Names are compared without case, accents, separators and trailing numbers: `E-Mail`, `email_2` and
`customerEmail` end with "email".
"""

from __future__ import annotations

import re
import unicodedata

from tfrec_meta.data.privacy.personal_data import PersonalData, Table


def _compact(words: str) -> str:
    return "".join(name_words(words))


def name_words(name: str) -> list[str]:
    """Splits a column name into lower-case words without accents, and drops trailing numbers.

    Example:
        >>> name_words("customerEMail_2")
        ['customer', 'e', 'mail']
    """
    spaced = re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", name)
    plain = unicodedata.normalize("NFKD", spaced)
    plain = "".join(letter for letter in plain if not unicodedata.combining(letter)).casefold()
    words = re.findall(r"[^\W\d_]+|\d+", plain)
    while words and words[-1].isdigit():
        words.pop()
    return words


def _set(text: str) -> frozenset[str]:
    return frozenset(map(_compact, text.split(",")))


# A name counts if it ends with one of these, as whole words: `customer_email`, `seller_phone`.
_ENDINGS = {
    PersonalData.EMAIL: _set(
        "email, emails, mail, mails, email address, e mail address, mail address, email addr,"
        "email hash, correo, correo electronico, courriel, email adresse, mail adresse, 邮箱,"
        "电子邮件, メールアドレス, 이메일, почта"
    ),
    PersonalData.IP: _set("ip, ips, ip address, ip addr, ip adresse, ipv, remote addr, adresse ip"),
    PersonalData.PHONE: _set(
        "phone, phones, phone number, phone no, phone num, telephone, telephone number, tel,"
        "mobile, mobile number, mobile phone, mobile no, cell phone, cell number, cellphone,"
        "msisdn, fax, fax number, telefon, telefonnummer, handy, handynummer, mobilnummer,"
        "telefono, movil, telefone, celular, whatsapp, 电话, 手机, 手机号, 電話, 電話番号"
    ),
    PersonalData.BIRTH_DATE: _set(
        "birth date, birthdate, date of birth, dob, birthday, birth day, born on, geburtsdatum,"
        "geburtstag, date de naissance, date naissance, fecha de nacimiento, fecha nacimiento,"
        "data di nascita, data de nascimento, 生日, 出生日期, 生年月日"
    ),
    PersonalData.ACCOUNT: _set(
        "card number, card no, card num, credit card, credit card number, cc number, ccnum,"
        "debit card, debit card number, iban, bank account, bank account number, account number,"
        "account no, kontonummer, kreditkarte, kreditkartennummer, numero de tarjeta, tarjeta,"
        "carte bancaire, 卡号, 银行卡"
    ),
    PersonalData.IDENTITY: _set(
        "ssn, social security, social security number, passport, passport number, passport no,"
        "national id, national id number, tax id, tax number, drivers license, driver license,"
        "drivers license number, driver license number, driving licence, id card, id card number,"
        "identity card, nhs number, dni, curp, cpf, steuernummer, steuer id,"
        "personalausweisnummer, ausweisnummer, 身份证, 身份证号"
    ),
}
# A name counts if it consists of one of these, after words from `_OWNERS`: `billing_street`.
_WHOLE = {
    PersonalData.NAME: _set(
        "name, full name, first name, last name, family name, given name, given names, middle name,"
        "maiden name, surname, forename, display name, nickname, nick name, user name, username,"
        "login, login name, screen name, fname, lname, vorname, nachname, familienname,"
        "benutzername, prenom, nom, nom de famille, nombre, apellido, apellidos, cognome, nome,"
        "sobrenome, 姓名, 名字, 氏名, 이름, имя, фамилия"
    ),
    PersonalData.ADDRESS: _set(
        "address, addr, address line, street, street address, street name, postal address,"
        "mailing address, house number, house no, zip, zip code, zipcode, post code, postcode,"
        "postal code, plz, postleitzahl, strasse, hausnummer, adresse, anschrift, rue, code postal,"
        "direccion, calle, codigo postal, indirizzo, endereco, cep, 地址, 住所, 邮编"
    ),
}
# Those that are names of people in any table.
_PERSONS = _set(
    "first name, last name, given name, given names, middle name, maiden name, surname, forename,"
    "vorname, nachname, familienname, prenom, nom de famille, apellido, apellidos, cognome,"
    "sobrenome, user name, username, 姓名, 氏名, фамилия"
)
_PEOPLE = frozenset(
    ("user", "customer", "cust", "client", "member", "subscriber", "buyer", "shopper", "visitor")
    + ("guest", "patient", "employee", "person", "contact", "reviewer", "recipient", "cardholder")
    + ("owner", "kunde", "kunden", "benutzer", "cliente", "usuario", "utilisateur")
)
_OWNERS = _PEOPLE | frozenset(
    ("account", "billing", "shipping", "delivery", "home", "private", "personal", "work")
    + ("primary", "secondary", "main", "residential", "postal")
)


def kind_by_name(name: str, table: Table) -> PersonalData | None:
    """Returns what a column with this name would hold; None for a name that says nothing.

    Args:
        name: of the column.
        table: which table has it. Names and addresses of items are not those of people.
    """
    words = name_words(name)
    endings = {"".join(words[first:]) for first in range(len(words))}
    for kind, known in _ENDINGS.items():
        of_items = table == "items" and kind in (PersonalData.BIRTH_DATE, PersonalData.IP)
        if endings & known and not of_items:
            return kind
    whole = words
    while len(whole) > 1 and whole[0] in _OWNERS:
        whole = whole[1:]
    forms = {"".join(words), "".join(whole)}
    of_people = table == "users" or any(word in _PEOPLE for word in words[: -len(whole)])
    if forms & _PERSONS:
        return PersonalData.NAME
    for kind, known in _WHOLE.items():
        if of_people and forms & known:
            return kind
    return None
