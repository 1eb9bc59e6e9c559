from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.core.masking import MASK, credentials_of, is_clean, is_secret_name, masked, masked_document

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
        pytest.param("?sv=2022&sr=b&sig=a%2Bb%3D&se=1", "?***", id="sas"),
        pytest.param("sv=2022&sr=b&sig=a%2Bb%3D&se=1", "sv=2022&sr=b&sig=***&se=1", id="sas-without-mark"),
        pytest.param("a=1&client_secret=x.y~z&scope=s", "a=1&client_secret=***&scope=s", id="form"),
        pytest.param("AccountName=a;AccountKey=Zm9v==;x=1", "AccountName=a;AccountKey=***;x=1", id="connection-string"),
        pytest.param('{"access_token": "opaque", "a": "b', '{"access_token": "***", "a": "b', id="half-a-json"),
        pytest.param("SharedAccessSignature sr=x&sig=y1z2w3&se=1", "SharedAccessSignature ***", id="sas-scheme"),
        pytest.param(f"a_{JWT}", "a_***", id="jwt-behind-a-word"),
        pytest.param(rf"a\n{JWT}", r"a\n***", id="jwt-behind-an-escape"),
        pytest.param("Bearer opaqueTokenWithoutDigitsAbcdef-xyz", "Bearer ***", id="bearer-opaque"),
        pytest.param("bearer abcdefghijklmnopqrstuvwxyz", "bearer ***", id="bearer-no-word"),
        pytest.param("DPoP abc.SECRETdef.", "DPoP ***", id="dpop"),
        pytest.param(r'{"a": "Bearer ab1\/cd2"}', r'{"a": "Bearer ***"}', id="bearer-escaped"),
        pytest.param("password: SECRET", "password: ***", id="colon"),
        pytest.param("password: hunter is wrong", "password: *** is wrong", id="colon-in-a-sentence"),
        pytest.param("password='my SECRET pass', x", "password='***', x", id="quoted"),
        pytest.param('password="my \\"SECRET\\" pass" x', 'password="***" x', id="quoted-quotes"),
        pytest.param("password='my SECRET", "password='***", id="quoted-cut-off"),
        pytest.param("x-api-key: abc", "x-api-key: ***", id="field"),
        pytest.param("X-Auth-Token: Bearer abc", "X-Auth-Token: ***", id="field-with-scheme"),
        pytest.param("X-Forwarded-Authorization: Bearer abc def", "X-Forwarded-Authorization: ***", id="other-line"),
        pytest.param("spring.db_password=abc x", "spring.db_password=*** x", id="dotted"),
        pytest.param("secret={a: {b}} x", "secret=*** x", id="braces"),
        pytest.param(r"{\"password\": \"S\", \"a\": 1}", r"{\"password\": \"***\", \"a\": 1}", id="escaped-json"),
        pytest.param(r"{\"password\": \"a\\\"b\"}", r"{\"password\": \"***\"}", id="escaped-quote-in-escaped-json"),
        pytest.param(r"{\"token\": [\"a]\"], \"a", r"{\"token\": \"***\", \"a", id="escaped-array"),
        pytest.param('{"password": 12345, "a', '{"password": "***", "a', id="number"),
        pytest.param('{"token": ["a]", {"b": 1}], "a', '{"token": "***", "a', id="array"),
        pytest.param('{"secret": {"value": "hunter2"', '{"secret": "***"', id="object-cut-off"),
        pytest.param("<Password a='b'>S</Password>", "<Password a='b'>***</Password>", id="element"),
        pytest.param("<a:sasToken><![CDATA[S]]></a:sasToken>", "<a:sasToken><![CDATA[***</a:sasToken>", id="cdata"),
        pytest.param("https://user:SECRET@host/a", "https://***@host/a", id="user-of-a-url"),
        pytest.param(r"https:\/\/user:SECRET@host", r"https:\/\/***@host", id="user-of-an-escaped-url"),
        pytest.param("GET https://x/y?code=SECRET failed", "GET https://x/y?*** failed", id="query"),
        pytest.param("'/api/x?a=b' failed", "'/api/x?***' failed", id="query-quoted"),
        pytest.param("machines?a=b", "machines?***", id="query-relative"),
        pytest.param("/api/x?SECRET", "/api/x?***", id="query-without-a-name"),
        pytest.param("why?https://x/y?a=b", "why?***", id="query-behind-a-question"),
        pytest.param("/api/machines?$filter=userName eq 'bob' is bad", "/api/machines?*** is bad", id="odata"),
        pytest.param("/a?$filter=n in ('b', 'c d') and not f(m,'O''B') x", "/a?*** x", id="odata-expression"),
        pytest.param("/a?$filter=name eq 'cut o", "/a?***", id="odata-cut-off"),
        pytest.param(r'{"a": "/x?b=\u0041\/c\"", "d": 1}', r'{"a": "/x?***\"", "d": 1}', id="query-escaped"),
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
        "Is it so? Yes, and/or no.",
        "What is wrong?",
        "Unexpected token: must not be null.",
        "Basic and Bearer: either is fine, NTLM is not.",
        'Bearer realm="a", error="invalid_token", error_description="expired"',
        "tokenType=Bearer; expires_in=3599; keyId=7; errorCode=5; key=name; code=AADSTS7; passwordExpired: yes",
        '{"token": null, "password": false, "error": "invalid_token"}',
        "design=1 assign: 2",
        "<passwordExpired>yes</passwordExpired>",
        "https://login.example/a@b: gone",
        "1 < 2 </ x",
    ],
)
def test_sentences_are_left_alone(text: str) -> None:
    assert masked(text) == text


def test_a_document_is_masked_within() -> None:
    document = {"Password": "x", "n": {"token": "y", "list": [JWT, 1, None]}, "sig": 5, JWT: True}
    assert masked_document(document) == {
        "Password": "***",
        "n": {"token": "***", "list": ["***", 1, None]},
        "sig": "***",
        "***": True,
    }


@pytest.mark.parametrize("value", ["x", "", 12345, 1.5, ["abc"], {"value": "hunter2"}, []])
def test_whatever_is_under_a_secret_name_is_masked(value: object) -> None:
    assert masked_document({"clientSecret": value, "a": value if value == 1.5 else 0})["clientSecret"] == MASK


@pytest.mark.parametrize("value", [None, True, False])
def test_what_can_be_no_secret_stays(value: object) -> None:
    assert masked_document({"password": value}) == {"password": value}


def test_what_is_nested_too_deeply_is_left_out() -> None:
    document = json.loads("[" * 900 + "]" * 900)
    assert len(json.dumps(masked_document(document))) < 100


TELLING_NAMES = """
    password Password PASSWORD2 adminPassword db_password passwordHash pwd secret client_secret secretText token_value
    authToken sessionToken X-Auth-Token access_token accesstoken jwt x-api-key apiKey APIKey ApiKeys.apikey
    Ocp-Apim-Subscription-Key subscriptionKey primaryKey AccountKey SharedAccessKey x-functions-key code_verifier
    connectionString ConnectionString credentials Proxy-Authorization Set-Cookie sig signature client_assertion
"""
OTHER_NAMES = """
    tokenType token_type expires_in keyId passwordExpired errorCode key code message target string value hash - é
    foreignKey publicKey partitionKey maxTokens design sigma signatureVersion tokenIssuer secretId cookieCount
"""


@pytest.mark.parametrize("name", TELLING_NAMES.split())
def test_names_of_secrets(name: str) -> None:
    assert is_secret_name(name)
    assert masked(f"{name}=hunter2").endswith("=***")


@pytest.mark.parametrize("name", [*OTHER_NAMES.split(), "", "a" * 10_000])
def test_names_of_anything_else(name: str) -> None:
    assert not is_secret_name(name)
    assert masked(f"{name}=hunter2").endswith("=hunter2")


TOKEN = "q" * 40 + "-opaque"


@pytest.mark.parametrize(
    ("field", "expected"),
    [
        pytest.param((b"Authorization", b"Bearer " + TOKEN.encode()), {TOKEN}, id="bearer"),
        pytest.param((b"authorization", b"abcdefgh"), {"abcdefgh"}, id="no-scheme"),
        pytest.param((b"Authorization", b"Basic Ym9iOmh1bnRlcjI="), {"Ym9iOmh1bnRlcjI=", "Ym9iOmh1bnRlcjI%3D", "hunter2"}, id="basic"),  # noqa: E501
        pytest.param((b"Authorization", b"Basic no-base64"), {"no-base64"}, id="basic-broken"),
        pytest.param((b"Proxy-Authorization", b"Negotiate YWJjZGVm"), {"YWJjZGVm"}, id="proxy"),
        pytest.param((b"Cookie", b'a=first1; b="second"; c=x; d'), {"first1", "second"}, id="cookie"),
        pytest.param((b"Cookie", b"a=b%2Bcdef"), {"b%2Bcdef", "b+cdef", "b%252Bcdef"}, id="cookie-escaped"),
        pytest.param((b"X-Api-Key", b" abcdef "), {"abcdef"}, id="key"),
        pytest.param((b"Ocp-Apim-Subscription-Key", b"abcdef"), {"abcdef"}, id="subscription"),
        pytest.param((b"X-Api-Key", b"abcde"), set(), id="short"),
        pytest.param((b"Authorization", b"Bearer"), set(), id="scheme-alone"),
        pytest.param((b"X-Api-Key", b"a***bcdef"), set(), id="masked"),
        pytest.param((b"Cookie", b"a=password"), set(), id="a-name"),
        pytest.param((b"User-Agent", b"abcdefgh"), set(), id="no-secret"),
    ],
)  # fmt: skip
def test_credentials_of_a_request(field: tuple[bytes, bytes], expected: set[str]) -> None:
    assert set(credentials_of((field, (b"Host", b"example.org")))) == expected


def test_the_longest_credentials_come_first() -> None:
    fields = ((b"X-Api-Key", b"abcdef"), (b"X-Auth-Token", b"abcdefghi"))
    assert masked("abcdefghi", credentials_of(fields)) == MASK


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param(f"No {TOKEN}, no.", "No ***, no.", id="whole"),
        pytest.param(f"No {TOKEN}{TOKEN}.", "No ******.", id="twice"),
        pytest.param(f"No {TOKEN[:30]}…", "No ***…", id="cut-off"),
        pytest.param("user bob/hunter2 unknown", "user bob/*** unknown", id="short"),
    ],
)
def test_known_secrets_are_masked_wherever_they_stand(text: str, expected: str) -> None:
    secrets = (TOKEN, "hunter2")
    assert masked(text, secrets) == expected
    assert masked_document({text: [text]}, secrets) == {expected: [expected]}
    assert is_clean(text)
    assert not is_clean(text, secrets)


FRAGMENTS = (
    "Bearer ", "DPoP ", "Basic ", "eyJabcdefgh", "sig=", "x1", "cookie", ":", "=", '"', "'", " ", "\\", '\\"',
    "{", "}", "[", "]", "?", "/", "://", "@", "password", "token: ", "&", ";", ",", "\n", "authorization: ", "it",
    "$filter=", "a eq 'b'", " and ", "<password>", "</x>", "<", ">", "***", "hunter2", "q" * 20, "\\n", "x-api-key",
    "-", ".", "1", "null", "(", ")",
)  # fmt: skip
TEXTS = st.lists(st.sampled_from(FRAGMENTS), max_size=12).map("".join)


@settings(deadline=None)
@given(TEXTS, st.sampled_from([(), (TOKEN, "hunter2"), ("a*b-cdefg", "q" * 15 + "*z")]))
def test_masking_twice_changes_nothing(text: str, secrets: tuple[str, ...]) -> None:
    once = masked(text, secrets)
    assert masked(once, secrets) == once


@settings(deadline=None)
@given(
    st.recursive(
        TEXTS | st.integers() | st.none() | st.booleans(), lambda inner: st.lists(inner) | st.dictionaries(TEXTS, inner)
    )
)
def test_a_document_stays_one(document: object) -> None:
    once = masked_document(document)
    assert masked_document(json.loads(json.dumps(once))) == once


NAMES = st.sampled_from(["password", "sessionToken", "keyId", "message", "x-api-key", "a"])
WORDS = st.text('abc \\"\n[]{}é:', max_size=6)


@settings(deadline=None)
@given(st.recursive(WORDS | st.integers() | st.none(), lambda inner: st.lists(inner) | st.dictionaries(NAMES, inner)))
def test_json_as_it_was_sent_stays_json(document: object) -> None:
    """Also JSON within a string of it."""
    for value in (document, json.dumps(document)):
        text = json.dumps(value, ensure_ascii=False)
        assert isinstance(json.loads(masked(text)), type(value))


@pytest.mark.parametrize("start", ["", "/x?$", "</://@=bearer token=eyJ?"])
@pytest.mark.parametrize(
    "repeated",
    [
        "a", "a-", " ", "\\", '"', "'", "?", "/?$", "a/b?$c eq ", "=", "token=", "token={", 'token=["', "token='",
        "token=it ", "token=(", '"token":{"token":', "cookie: ", "eyJ", "eyJabcdefgh.", "bearer ", "bearer\t \t",
        "://", "://a@", "@://", "<", "<a", "<token>", ",", '","?$a,  \'', "?$a eq ", "secretsecret", "{[",
        "token=Bearer Bearer ", '\\"token\\":\\"',
    ],
)  # fmt: skip
def test_the_worst_of_64_kilobytes_comes_to_an_end(start: str, repeated: str) -> None:
    """Anything that reads a text twice would take minutes or hours."""
    text = (start + repeated * 65536)[:65536]
    once = masked(text, ("secretsecretsecrets", "aaaaaaaaaa"))
    assert len(once) < 2 * len(text)
