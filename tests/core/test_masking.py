from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.core.masking import masked, masked_document

JWT = "eyJhbGciOiJSUzI1NiJ9.eyJvaWQiOiIxIn0.c2lnbmF0dXJl"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param(f"token {JWT} is bad", "token *** is bad", id="jwt"),
        pytest.param(f"token {JWT[:20]}", "token ***", id="jwt-cut-off"),
        pytest.param("Bearer abcdef0123456789xyz, then", "Bearer ***, then", id="bearer"),
        pytest.param("Authorization: Bearer abc", "Authorization: ***", id="field-line"),
        pytest.param("Cookie: a=b; c=d\nHost: x", "Cookie: ***\nHost: x", id="cookie"),
        pytest.param("Set-Cookie: a=b", "Set-Cookie: ***", id="set-cookie"),
        pytest.param("Basic dXNlcjpwYXNz", "Basic ***", id="basic"),
        pytest.param("Basic dTpwYQ==", "Basic ***", id="basic-short"),
        pytest.param("?sv=2022&sr=b&sig=a%2Bb%3D&se=1", "?sv=2022&sr=b&sig=***&se=1", id="sas"),
        pytest.param("a=1&client_secret=x.y~z&scope=s", "a=1&client_secret=***&scope=s", id="form"),
        pytest.param("AccountName=a;AccountKey=Zm9v==;x=1", "AccountName=a;AccountKey=***;x=1", id="connection-string"),
        pytest.param('{"access_token": "opaque", "a": "b', '{"access_token": "***", "a": "b', id="half-a-json"),
        pytest.param("SharedAccessSignature sr=x&sig=y1z2w3&se=1", "SharedAccessSignature ***", id="sas-scheme"),
    ],
)
def test_secrets_are_masked(text: str, expected: str) -> None:
    assert masked(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        "Basic authentication failed for this request.",
        "The Bearer token is missing, expired or not for this service.",
        "AADSTS7000215: Invalid client secret provided.",
        "Your token: it has expired.",
        "Missing application roles. API required roles: Machine.Read.All, application roles: Alert.Read.All.",
        "Request 0f4d4b3e-8f0c-4b6e-9a57-3d2f1c0b9a88 failed.",
        "signature validation failed",
    ],
)
def test_sentences_are_left_alone(text: str) -> None:
    assert masked(text) == text


def test_a_document_is_masked_within() -> None:
    assert masked_document({"Password": "x", "n": {"token": "y", "list": [JWT, 1, None]}, "sig": 5, JWT: True}) == {
        "Password": "***",
        "n": {"token": "***", "list": ["***", 1, None]},
        "sig": 5,
        "***": True,
    }


def test_what_is_nested_too_deeply_is_left_out() -> None:
    document = json.loads("[" * 900 + "]" * 900)
    assert len(json.dumps(masked_document(document))) < 100


@given(st.lists(st.sampled_from(["Bearer ", "eyJabcdefgh", "sig=", "x1", "cookie", ":", "=", '"', " ", "Basic "])))
def test_masking_twice_changes_nothing(parts: list[str]) -> None:
    once = masked("".join(parts))
    assert masked(once) == once
