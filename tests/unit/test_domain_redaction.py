"""What is masked is gone, and what a question is about is left as it is."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from conclave.domain.redaction import DEFAULT_MASKS, MASKS, masker

CHECKOUT = Path(__file__).resolve().parents[2]
mask, mask_all = masker(), masker(MASKS)

# By row of the table: texts that are masked, and texts that only look like it.
SECRETS: dict[str, tuple[list[str], list[str]]] = {
    "private_key": (
        ["-----BEGIN RSA PRIVATE KEY-----\nMIIEow\nIBAAK=\n-----END RSA PRIVATE KEY-----"],
        ["-----BEGIN CERTIFICATE-----"],
    ),
    "token": (["eyJhbGciOiJI.eyJzdWIiOiIx.SflKxwRJSMeKKF2QT4"], ["eyJ.a.b"]),
    "api_key": (
        ["sk-abcdefghijklmnop1234", "sk-proj-abcdefghijklmnop", "cnv_aaaaaaaaaaaaa_" + "x" * 43, "AKIAIOSFODNN7EXAMPLE",
         "ghp_" + "a" * 36, "xoxb-1234567890-abc", "AIza" + "b" * 35, "hf_" + "c" * 34, "sk_live_abcdefghijklmnop"],
        ["sk-8", "a task-force", "AKIA is a prefix", "ghp_short"],
    ),
    "bearer": (["Bearer abcdefghijklmnop123456"], ["a bearer of news", "Bearer bonds are old"]),
    "password": (["password: hunter22", "PASSWORD=correct-horse", "api_key = 'abcdef123'", '"secret": "abc123def"'],
                 ["what is a password?", "the secret is out", "pwd: 12"]),
    "url_password": (["postgresql://ann:hunter2@host"], ["https://example.org/a", "http://host:8080/x@y"]),
    "email": (["ann@example.org", "ann.b+c@mail.example.co.uk"], ["5 @ 3 a piece", "a@b", "@someone"]),
    "iban": (["DE89 3704 0044 0532 0130 00", "DE89370400440532013000", "GB29NWBK60161331926819"],
             ["DE89 3704 0044 0532 0130 01", "AB12 3456 7890"]),
    "card": (["4111 1111 1111 1111", "5500-0055-5555-5559", "378282246310005", "3782 822463 10005"],
             ["4111 1111 1111 1112", "1234567890123456", "0000000000000000"]),
    "phone": (["+49 30 901820", "+1 (415) 555-2671", "+442071838750"], ["+5", "2+2", "12345678 + 87654321", "30 901820"]),
    "us_ssn": (["078-05-1120"], ["78-5-112"]),
    "ip_address": (["192.168.0.1"], ["1.2.3", "999.1.1.1"]),
}  # fmt: skip


@pytest.mark.parametrize("name", MASKS)
def test_a_secret_is_masked_and_what_only_looks_like_one_is_not(name: str) -> None:
    alone = masker([name])
    secrets, others = SECRETS[name]
    label = f"[{MASKS[name].label}]"
    for secret in secrets:
        shown = alone(secret)
        assert label in shown
        for around in ("Is {} mine?", "({}),", "mine:\n{}\n"):
            assert alone(around.format(secret)) == around.format(shown), secret
    for text in others:
        assert alone(text) == text


@pytest.mark.parametrize(
    "question",
    ["What is 4111 - 1111 + 1111?", "12+34567890 = ?", "Add 1234 5678 and 9012 3456.", "x = 3.14; y: 2.71", "1/2 + 3/4",
     "500-12-1234 is what?", "Version 1.2.3.4 or 1.10.0.0?", "Tom has 1,234,567 apples @ $2.50."],
)  # fmt: skip
def test_arithmetic_is_left_alone(question: str) -> None:
    assert mask(question) == question


def test_every_question_that_ships_is_left_alone() -> None:
    rows = [
        json.loads(line)
        for file in (CHECKOUT / "data" / "problems").glob("*.jsonl")
        for line in file.read_text().splitlines()[:500]
    ]
    questions = [row["question"] for row in rows if "question" in row]  # what is no problem may well be an address
    assert questions
    assert [question for question in questions if mask(question) != question] == []


@given(st.text(max_size=200))
def test_masking_is_total_and_masks_nothing_twice(text: str) -> None:
    once = mask_all(text)
    assert mask_all(once) == once


_ALL = [secret for name in DEFAULT_MASKS for secret in SECRETS[name][0]]


@given(st.text(max_size=40), st.sampled_from(_ALL), st.text(max_size=40))
def test_a_secret_is_gone_whatever_stands_around_it(before: str, secret: str, after: str) -> None:
    assert secret not in mask(f"{before} {secret} {after}")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("4111 1111 1111 1111 5", "[CARD] 5"),
        ("2345 4111 1111 1111 1111", "2345 [CARD]"),
        ("DE89 3704 0044 0532 0130 00 ABCD", "[IBAN] ABCD"),
        ("postgresql://ann:hunter2@host/db", "postgresql://ann:[SECRET]@host/db"),
        ("mine: -----BEGIN PRIVATE KEY-----\nMIIEow; and so on", "mine: [PRIVATE_KEY]"),
        ("password=abc123def&x=1", "password=[SECRET]"),
    ],
)
def test_what_stands_beside_a_secret_does_not_hide_it(text: str, expected: str) -> None:
    assert mask(text) == expected


def test_an_unknown_kind_is_an_error() -> None:
    with pytest.raises(KeyError, match="no_such"):
        masker(["email", "no_such"])
