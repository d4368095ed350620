"""Redaction: what is found, what is left alone, done twice is done once, and hostile texts cost no more than their length."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mainstay.guard.redaction import EVERYTHING, Redactor, clean, findings, mod97, redact, without_secrets

KEY = "mst_" + "a1b2" * 6 + "zz" + "_" + "Ab3dEf9hIj" * 4 + "K1m2"
SECRETS = {
    "key": [
        KEY,
        "sk-proj-" + "aB3dE6gH9jK2mN5pQ8sT",
        "sk-ant-api03-" + "x9Y8z7W6v5U4t3S2r1Q0",
        "gh" + "p_" + "A1b2C3d4E5f6G7h8I9j0K1l2M3n4O5p6Q7r8",
        "github_pat_" + "11ABCDEFG0abcdefghijkl_mnopqrstuvwxyz",
        "xox" + "b-123456789012-abcdefABCDEF",
        "AKIA" + "IOSFODNN7EXAMPLE",
        "AIza" + "SyA1234567890abcdefghijklmnopqrstuv",
        "glpat-" + "AbCdEfGh1234567890xy",
        "hf_" + "abcdefghijABCDEFGHIJ0123456789",
        "r" + "k_live_" + "1234567890abcdefABCDEF",
        "SG." + "a1b2c3d4e5f6g7h8i9j0k1" + "." + "a1b2c3d4e5f6g7h8i9j0k1l2m3n4o5p6q7r8s9t0u1v",
    ],
    "jwt": ["eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0NTY3ODkwIn0.dozjgNryP4J3jVmNHl0w5N_XgL0n3I9PlFUP0THsR8U"],
    "private-key": [
        "-----BEGIN RSA PRIVATE KEY-----\nMIIEowIBAAKCAQEA7bq\nq1w2e3r4t5==\n-----END RSA PRIVATE KEY-----",
    ],
}
PLACED = [
    ("postgresql://mainstay:{}@db.example/one", "S3cr3t!Pass"),
    ("redis://:{}@cache", "b8dK20xz"),
    ("Authorization: Bearer {}", "abcdefgh1234567890"),
    ("authorization: Basic {}", "dXNlcjpwYXNzd29yZA=="),
    ('{{"authorization": "Token {}"}}', "9944b09199c62bcf"),
    ("curl -H 'Authorization: {}'", "verysecretvalue"),
    ("password={}", "hunter"),
    ("DB_PASSWORD={}", "correct-horse"),
    ("Password: {}", "Winter2026"),
    ("Das Passwort lautet {}.", "Sommer2024"),
    ("my password is {}, help", "qwerty12"),
    ('"password": "{}"', "two words here"),
    ('{{\\"api_key\\": \\"{}\\"}}', "a1B2c3D4e5F6"),
    ("AWS_SECRET_ACCESS_KEY={}", "wJalrXUtnFEMIzK7MDENGzbPxRfiCYEXAMPLEKEY"),
    ("client_secret = '{}'", "Zx81Qw92Er73Ty64"),
    ("Cookie: {}", "mainstay=abcdefgh123"),
    ("AccountName=x;AccountKey={}", "q1W2e3R4t5Y6u7I8o9P0a1S2d3F4g5H6j7K8l9Z0x1C2v3B4=="),
]
PERSONAL = {
    "email": ["joe.doe+tag@example.co.uk", "o'brien@example.com", "joe%40example.com", "müller@beispiel.de"],
    "phone": ["+49 170 1234567", "+1 (212) 555-0123", "(212) 555-0123", "212-555-0123", "0041 44 668 18 00"],
    "iban": ["DE89 3704 0044 0532 0130 00", "GB82WEST12345698765432", "fr14 2004 1010 0505 0001 3m02 606"],
    "card": ["4111 1111 1111 1111", "5500-0000-0000-0004", "378282246310005", "6011111111111117"],
    "national-id": [
        "86 095 742 719",
        "12345678Z",
        "X1234567L",
        "RSSMRA85M01H501Q",
        "1 85 05 78 006 084 91",
        "756.9217.0769.85",
        "85.07.30-033.28",
        "529.982.247-25",
        "811218-9876",
        "078-05-1120",
    ],
}
ORDINARY = [
    "Reset your password: click the link in the message.",
    "Passwords must be changed every 90 days; the password is required.",
    "The token budget is 4096 tokens, of which 1,024 are for output.",
    "input_tokens=123456789012 output_tokens=42",
    "Basic understanding of bearer bonds and token-based authentication is required.",
    "Invoice 2024-00017 of 2024-03-15 over 1.250.000,00 EUR, order 4500012345.",
    "See sections 3.2.1 to 3.2.14 and tables 10, 11 and 12 of ISO 27001:2022.",
    "Version 1.45.2 was built on 20261122T081457Z, commit 9613b01f.",
    "The meeting is on 12-11-2026 at 10:30, room 3.141, building 27.",
    "request req_01jd8v0c3k9x2m5n7p trace 4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
    "doc_1f2e3d4c5b6a79880102030405060708 at 1200-1450, score 0.8731",
    "sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
    "https://example.com:8080/a/b?page=2#top and http://[::1]:9000/",
    "Wert 1700000000000 in ms; 0000000000000000; 1111 1111 1111 1111",
    "the secret of a good sauce: patience; key: value; tokens: 12",
    "@mention of @somebody, x@y, a@b",
]


@pytest.mark.parametrize(("kind", "secret"), [(kind, one) for kind, all_ in SECRETS.items() for one in all_])
def test_secrets_by_their_shape(kind: str, secret: str) -> None:
    for text in (secret, f"use {secret} for it", f"key={secret}\n", f'{{"x": "{secret}"}}', f"({secret})"):
        assert secret not in redact(text), redact(text)
    assert redact(f"use {secret} now") == f"use [redacted:{kind}] now"
    assert secret not in without_secrets(f"it is {secret}.")


@pytest.mark.parametrize(("text", "secret"), PLACED)
def test_secrets_by_their_place(text: str, secret: str) -> None:
    said = text.format(secret)
    assert secret not in redact(said), redact(said)
    assert all(one.secret for one in findings(said))


@pytest.mark.parametrize(("kind", "value"), [(kind, one) for kind, all_ in PERSONAL.items() for one in all_])
def test_personal_data(kind: str, value: str) -> None:
    for text in (value, f"It is {value}, I think", f"<{value}>", f"a {value}\nb"):
        assert value not in redact(text), redact(text)
    assert redact(f"It is {value} today") == f"It is [redacted:{kind}] today"
    assert without_secrets(f"It is {value} today") == f"It is {value} today"


@pytest.mark.parametrize("text", ORDINARY)
def test_ordinary_sentences_stay(text: str) -> None:
    assert redact(text) == text, findings(text)


@pytest.mark.parametrize("value", ["DE88 3704 0044 0532 0130 00", "4111 1111 1111 1112", "12345678A", "86 095 742 718"])
def test_a_wrong_check_digit_is_no_number_of_a_person(value: str) -> None:
    assert redact(f"No. {value} today") == f"No. {value} today"


def test_a_private_key_without_its_end() -> None:
    assert (
        redact('{"k": "-----BEGIN OPENSSH PRIVATE KEY-----\\nb3BlbnNzaC1r\\nAAAA"}')
        == '{"k": "[redacted:private-key]"}'
    )


def test_iban_check() -> None:
    assert mod97("GB82WEST12345698765432")
    assert not mod97("GB82WEST12345698765433")


@pytest.mark.parametrize(
    ("held", "said"),
    [
        ({"password": 123456}, {"password": "[redacted:password]"}),
        ({"pin": 4711, "otp": 12.5}, {"pin": "[redacted:password]", "otp": "[redacted:password]"}),
        (
            {"api_key": {"value": "k", "n": 7}},
            {"api_key": {"value": "[redacted:password]", "n": "[redacted:password]"}},
        ),
        ({"credentials": [{"user": "joe", "of": [1]}]}, None),
        ({"password": None, "secret": True, "token": ""}, {"password": None, "secret": True, "token": ""}),
        ({"input_tokens": 17, "key": 3, "max_token_count": 9}, {"input_tokens": 17, "key": 3, "max_token_count": 9}),
        ({"secret": {"required": "none"}}, {"secret": {"required": "none"}}),
    ],
)
def test_nothing_stands_under_a_secret_name(held: dict[str, Any], said: dict[str, Any] | None) -> None:
    expected = said or {"credentials": [{"user": "[redacted:password]", "of": ["[redacted:password]"]}]}
    assert clean(held) == expected
    assert clean({"deep": [held]}) == {"deep": [expected]}
    assert clean(clean(held)) == expected


def test_values_under_secret_names() -> None:
    held = {
        "http.request.header.authorization": ["Bearer x"],
        "db": {"password": "short", "port": 5432},
        "gen_ai.usage.input_tokens": 17,
        "args": [{"api_key": "k"}, "mail joe@example.com"],
    }
    said = json.dumps(clean(held))
    assert clean(held)["gen_ai.usage.input_tokens"] == 17
    assert clean(held)["db"]["port"] == 5432
    for secret in ("Bearer x", "short", '"k"', "joe@example.com"):
        assert secret not in said
    assert clean(clean(held)) == clean(held)
    same = {"a": ["b", {"c": 1}], "d": None}
    assert clean(same) is same


@pytest.mark.parametrize(
    "name",
    [
        *("refreshToken", "accessToken", "x.token", "token", "X-Auth-Token", "APIKey", "DBPassword", "id_token"),
        *(
            "my.credential",
            "credentials",
            "db.connection_string",
            "connectionString",
            "ssn",
            "customer.ssn",
            "pin",
            "PIN",
        ),
        *("user.pin", "otp", "login_otp", "otp_code", "otpCode"),
        *(
            "http.response.header.set-cookie",
            "http.request.header.proxy-authorization",
            "passwords",
            "password1",
            "password[]",
        ),
        *(
            "password ",
            "password_hash",
            "passwordConfirmation",
            "private_key_pem",
            "clientSecretValue",
            "session_cookie",
        ),
    ],
)
def test_names_of_secrets(name: str) -> None:
    assert clean({name: "abcd"}) == {name: "[redacted:password]"}
    assert clean({name: ["abcd"]}) == {name: ["[redacted:password]"]}


@pytest.mark.parametrize(
    "name",
    [
        *(
            "input_tokens",
            "total_tokens",
            "max_tokens",
            "maxTokens",
            "token_count",
            "tokenizer",
            "tokenType",
            "session.id",
        ),
        *("map_pin", "spin", "pin_code", "desktop", "adotp", "lesson", "key", "monkey"),
    ],
)
def test_names_of_no_secrets(name: str) -> None:
    held = {name: "abcd"}
    assert clean(held) is held


def test_equal_values_can_be_joined_by_who_has_the_key() -> None:
    one, other = Redactor(key=b"one"), Redactor(key=b"other")
    text = "from a@example.com to b@example.com and a@example.com"
    words = [word for word in one.redact(text).split() if word.startswith("[")]
    assert words[0] == words[2] != words[1]
    assert one.redact(text) != other.redact(text)
    assert one.redact(one.redact(text)) == one.redact(text)


def test_addresses_of_computers_when_asked() -> None:
    text = "from 192.0.2.17 and 2001:db8::8a2e:370:7334 at 10:30:00"
    assert redact(text) == text
    assert Redactor(addresses=True).redact(text) == "from [redacted:ip] and [redacted:ip] at 10:30:00"


_PIECES = st.sampled_from(
    [
        *(
            "password",
            "=",
            ":",
            " ",
            "\n",
            '"',
            "'",
            "\\",
            "@",
            "://",
            "u:",
            ".",
            ",",
            "-",
            "(",
            ")",
            "+49",
            "17012345",
        ),
        *("Bearer ", "Authorization: ", "token", "api_key", "joe@example.com", KEY, "4111111111111111", "DE89", "eyJ"),
        *(
            "-----BEGIN PRIVATE KEY-----",
            "-----END PRIVATE KEY-----",
            "[redacted:email]",
            "[redacted:",
            "sk-",
            "A1b2C3",
        ),
        *("3704 0044 0532 0130 00", " is ", "hunter2", "ä", "İ", "\u00a0", "0", "00", "{", "}", "Tel. "),
    ]
)
_TEXTS = st.lists(st.one_of(_PIECES, st.text(max_size=6)), max_size=25).map("".join)


@settings(max_examples=200, deadline=None, derandomize=True)
@given(_TEXTS)
def test_done_twice_is_done_once(text: str) -> None:
    once = redact(text)
    assert redact(once) == once
    assert without_secrets(without_secrets(text)) == without_secrets(text)
    assert findings(once) == ()


_EVERY_DETECTOR = Redactor(look_first=False)
_FEW_DIGITS = [
    *(
        "Tel: 030 - 12345",
        "fax: (0471) - 12345",
        "Durchwahl 123-456",
        "sms 123 456",
        "TÉLÉPHONE NUMÉRO: 01 2345",
        "tel 01 2345",
    ),
    *("+49 (30)  123456", "+49 (30) -12 34 56", "+49 (151) -(12) -(34) -(56)"),
    *(
        "LV73HABAABCDEF12ABC34",
        "see gi11NWBKABCD1EFGH2IJKL3",
        "MT86 MALT01100ABCDEFGHIJKLMNOPQR",
        "_MT86MALT01100ABCDEFGHIJKLMNOPQR",
    ),
]


@pytest.mark.parametrize("text", _FEW_DIGITS)
def test_numbers_with_few_digits_or_much_between_them(text: str) -> None:
    assert Redactor().findings(text) == _EVERY_DETECTOR.findings(text) != ()


_WITH_SECRETS = st.lists(
    st.one_of(
        _PIECES,
        st.text(max_size=6),
        st.sampled_from([one for group in (*SECRETS.values(), *PERSONAL.values()) for one in group]),
        st.sampled_from([text.format(secret) for text, secret in PLACED]),
        st.sampled_from(_FEW_DIGITS),
        st.sampled_from(["tel", "Call", "+49", "030", "12", "(", ")", " - ", ". ", ": ", "DE", "89"]),
        st.sampled_from(
            [
                "\ud800",
                "\udfff",
                "\u212a",
                "\u017f",
                "\x1c",
                "\x85",
                "ς",
                "Σ",
                "\n",
                "\t",
                "gldt-" + "aB3dE6gH9jK2mN5pQ8sT",
            ]
        ),
    ).flatmap(lambda piece: st.sampled_from([piece, piece.upper(), piece.swapcase(), piece[1:], piece[:-1]])),
    max_size=8,
).map("".join)


@settings(max_examples=500, deadline=None, derandomize=True)
@given(_WITH_SECRETS)
def test_looking_first_finds_what_reading_everything_finds(text: str) -> None:
    assert Redactor().findings(text) == _EVERY_DETECTOR.findings(text)
    assert Redactor().redact(text) == _EVERY_DETECTOR.redact(text)


@pytest.mark.parametrize(
    "form", ["{}assword = Hunter2!x", "bear{}r abcdefgh12345678", "coo{}ie: a=bcdefgh", "Author{}zation: Token abcdefg"]
)
def test_no_letter_of_another_alphabet_hides_a_name(form: str) -> None:
    """Whatever becomes a small letter is looked for as that letter."""
    letter = form.format("*")  # the letter that is missing, by what follows and what stands before
    missing = {"*assword": "p", "bear*r": "e", "coo*ie:": "k", "Author*zation:": "i"}[letter.split()[0]]
    for char in (chr(code) for code in range(0x110000) if chr(code).lower() == missing):
        text = form.format(char)
        assert Redactor().findings(text), repr(char)
        assert Redactor().findings(text) == _EVERY_DETECTOR.findings(text)


def test_a_text_seen_before_is_read_the_same() -> None:
    redactor = Redactor()
    for text in ("gpt-4o-mini-2024-07-18", "call +49 170 1234567", "gpt-4o-mini-2024-07-18", "call +49 170 1234567"):
        assert redactor.redact(text) == _EVERY_DETECTOR.redact(text)
    for n in range(10_000):  # more than it remembers
        assert redactor.redact(f"model-2024-07-18-{n}") == f"model-2024-07-18-{n}"
        assert redactor.clean({f"field_{n}": n}) == {f"field_{n}": n}


@settings(max_examples=50, deadline=None, derandomize=True)
@given(
    st.recursive(
        st.none() | st.integers() | _TEXTS,
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_PIECES, inner, max_size=3),
        max_leaves=4,
    )
)
def test_what_json_holds_stays_what_it_is(value: Any) -> None:
    once = clean(value)
    assert clean(once) == once
    assert json.loads(json.dumps(once)) == once


@settings(max_examples=200, deadline=None, derandomize=True)
@given(_TEXTS, _TEXTS)
def test_no_neighbour_hides_a_key(before: str, after: str) -> None:
    assert KEY not in redact(f"{before} {KEY} {after}")


HOSTILE = [
    *("a", "a@", "1", "1 ", "44 ", "0", "00", "1.", "-", '"', "ä", "\u212a", "a.", "password=", "password    ", "eyJ"),
    *("eyJaaaaaaa.", "-----BEGIN PRIVATE KEY-----", '-----BEGIN PRIVATE KEY-----"', "://a:", "bearer ", "+1 ", "sk-"),
    *("DE89 ", "authorization: ", "tel 0", "x@y.de+49 170 1234567 ", "+4917012345671", "4111111111111111 ", "@a.b.c"),
    *("cookie: a=", "basic YTpi", "(555) ", "password is ", "ghp_", 'password="\\', "mot de passe", "[redacted:email]"),
]


MEGABYTE = 1_000_000


@pytest.mark.parametrize("piece", HOSTILE)
def test_a_text_made_to_be_slow_is_not(piece: str) -> None:
    redact((piece * 20_000)[:100_000])


@pytest.mark.long
@pytest.mark.timeout(120)
@pytest.mark.parametrize("piece", HOSTILE)
def test_a_megabyte_made_to_be_slow_is_not(piece: str) -> None:
    """What grew with the square of its length would take hours here."""
    text = (piece * (MEGABYTE // len(piece) + 1))[:MEGABYTE]
    redact(text)


def test_findings_that_hide_each_other_without_end_cost_the_text() -> None:
    assert redact("+4917012345671" * 50) == EVERYTHING
