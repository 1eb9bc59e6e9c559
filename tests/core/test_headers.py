from __future__ import annotations

import re
from typing import TYPE_CHECKING
from urllib.parse import unquote

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from proxy.core import headers

if TYPE_CHECKING:
    from proxy.core.model import Fields

VIA = (b"Via", b"1.1 defender-sidecar")
TOKEN = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]*")


@pytest.mark.parametrize(
    "name",
    [
        *(b"Connection", b"Keep-Alive", b"Proxy-Authenticate", b"Proxy-Authorization", b"Proxy-Connection", b"TE"),
        *(b"Trailer", b"Transfer-Encoding", b"Upgrade", b"Content-Length", b"tRaNsFeR-eNcOdInG"),
    ],
)
def test_field_of_one_hop_goes_no_further(name: bytes) -> None:
    fields = ((b"Accept", b"a"), (name, b"x"), (b"Accept", b"b"))
    assert headers.end_to_end_request(fields, b"1.1") == (fields[0], fields[2], VIA)
    assert headers.end_to_end_response(fields) == (fields[0], fields[2])


@pytest.mark.parametrize("name", [b"Host", b"host", b"Expect"])
def test_field_of_the_request_is_set_anew_and_may_stand_in_a_response(name: bytes) -> None:
    assert headers.end_to_end_request(((name, b"x"),), b"1.1") == (VIA,)
    assert headers.end_to_end_response(((name, b"x"),)) == ((name, b"x"),)


@pytest.mark.parametrize(
    "name",
    [
        *(b"Authorization", b"Content-Type", b"Content-Encoding", b"Accept-Encoding", b"Cookie", b"User-Agent"),
        *(b"X-Request-Id", b"If-Match", b"traceparent", b"Trailers", b"Retry-After", b"WWW-Authenticate", b"X-Te"),
    ],
)
def test_every_other_field_crosses_as_it_is(name: bytes) -> None:
    assert headers.end_to_end_request(((name, b" x\xe9"),), b"1.1") == ((name, b" x\xe9"), VIA)
    assert headers.end_to_end_response(((name, b" x\xe9"),)) == ((name, b" x\xe9"),)


@pytest.mark.parametrize(
    ("connection", "crossing"),
    [
        pytest.param([b"close"], [b"X-One", b"X-Two", b"x-one"], id="none"),
        pytest.param([b"X-One"], [b"X-Two"], id="one"),
        pytest.param([b"x-ONE"], [b"X-Two"], id="letter-case"),
        pytest.param([b"close,x-one ,\tX-TWO"], [], id="list"),
        pytest.param([b"keep-alive", b"x-two"], [b"X-One", b"x-one"], id="second-line"),
        pytest.param([b",, ,x-two"], [b"X-One", b"x-one"], id="empty-members"),
        pytest.param([b""], [b"X-One", b"X-Two", b"x-one"], id="empty"),
        pytest.param([b"x-on"], [b"X-One", b"X-Two", b"x-one"], id="part-of-a-name"),
    ],
)
def test_field_that_connection_names_goes_no_further(connection: list[bytes], crossing: list[bytes]) -> None:
    fields: Fields = (
        (b"X-One", b"1"),
        *((b"CONNECTION", value) for value in connection),
        (b"X-Two", b"2"),
        (b"x-one", b"3"),
    )
    assert [name for name, _ in headers.end_to_end_response(fields)] == crossing
    assert [name for name, _ in headers.end_to_end_request(fields, b"1.1")] == [*crossing, b"Via"]


@pytest.mark.parametrize(
    ("version", "via"),
    [pytest.param(b"1.1", b"1.1 defender-sidecar", id="1.1"), pytest.param(b"1.0", b"1.0 defender-sidecar", id="1.0")],
)
def test_via_tells_the_version_received(version: bytes, via: bytes) -> None:
    assert headers.end_to_end_request((), version) == ((b"Via", via),)


def test_via_of_others_stays_before_ours() -> None:
    others = ((b"via", b"1.0 fred"), (b"Via", b"2 p.example.net"))
    assert headers.end_to_end_request(others, b"1.1") == (*others, VIA)


def test_via_cannot_be_removed_by_naming_it() -> None:
    assert headers.end_to_end_request(((b"Connection", b"via"),), b"1.1") == (VIA,)


def test_response_has_no_via() -> None:
    assert headers.end_to_end_response(()) == ()


@pytest.mark.parametrize(
    "fields",
    [
        pytest.param(((b"Via", b"1.1 defender-sidecar"),), id="as-we-write-it"),
        pytest.param(((b"VIA", b"1.0 defender-sidecar"),), id="of-http-1.0"),
        pytest.param(((b"Via", b"HTTP/1.1 defender-sidecar"),), id="protocol-name"),
        pytest.param(((b"Via", b"1.1  defender-sidecar (comment)"),), id="comment"),
        pytest.param(((b"Via", b"1.1 a, 1.1 defender-sidecar,1.1 b"),), id="in-a-list"),
        pytest.param(((b"Via", b"1.1 a"), (b"via", b"1.1 defender-sidecar")), id="on-the-second-line"),
    ],
)
def test_request_that_passed_before_leads_back(fields: Fields) -> None:
    assert headers.leads_back(fields)


@pytest.mark.parametrize(
    "fields",
    [
        pytest.param((), id="no-via"),
        pytest.param(((b"Via", b""),), id="empty"),
        pytest.param(((b"Via", b"1.1"),), id="version-alone"),
        pytest.param(((b"Via", b"1.1 fred (defender-sidecar)"),), id="in-a-comment"),
        pytest.param(((b"Via", b"1.1 defender-sidecar-2"),), id="longer-name"),
        pytest.param(((b"Via", b"defender-sidecar 1.1"),), id="other-order"),
        pytest.param(((b"X-Via", b"1.1 defender-sidecar"),), id="other-field"),
        pytest.param(((b"User-Agent", b"1.1 defender-sidecar"),), id="user-agent"),
    ],
)
def test_any_other_request_does_not(fields: Fields) -> None:
    assert not headers.leads_back(fields)


NAMES = st.sampled_from([b"A", b"a", b"B", b"Set-Cookie", b"Connection", b"Via", b"TE", b"Content-Length"])
FIELDS = st.lists(st.tuples(NAMES, st.sampled_from([b"", b"a", b"b, via", b"1.1 x", b"\xff"]))).map(tuple)


@given(FIELDS)
def test_what_crosses_keeps_order_and_repeats(fields: Fields) -> None:
    rest = iter(fields)
    crossing = headers.end_to_end_response(fields)
    assert all(line in rest for line in crossing)
    assert headers.end_to_end_request(fields, b"1.1")[-1] == VIA
    assert not any(name.lower() in headers.HOP_BY_HOP for name, _ in crossing)


@given(FIELDS)
def test_what_crossed_crosses_again(fields: Fields) -> None:
    crossing = headers.end_to_end_response(fields)
    assert headers.end_to_end_response(crossing) == crossing


@given(FIELDS)
def test_request_that_was_sent_leads_back(fields: Fields) -> None:
    assert headers.leads_back(headers.end_to_end_request(fields, b"1.1"))


def test_values_are_found_whatever_the_case_of_their_name() -> None:
    fields = ((b"Accept", b"a"), (b"X", b"b"), (b"ACCEPT", b"c"), (b"accept", b""))
    assert headers.values(fields, b"accept") == [b"a", b"c", b""]
    assert headers.values(fields, b"none") == []


def test_lines_are_joined_to_one_list() -> None:
    fields = ((b"Content-Encoding", b"gzip"), (b"content-encoding", b"br, \xe9"))
    assert headers.joined(fields, b"content-encoding") == "gzip, br, \u00e9"
    assert headers.joined(fields, b"accept") == ""


@pytest.mark.parametrize(
    ("ours", "expected"),
    [
        pytest.param([], ((b"A", b"1"), (b"B", b"2"), (b"a", b"3")), id="nothing"),
        pytest.param([("C", "4")], ((b"A", b"1"), (b"B", b"2"), (b"a", b"3"), (b"C", b"4")), id="new"),
        pytest.param([("A", "4")], ((b"B", b"2"), (b"A", b"4")), id="every-former-line-goes"),
        pytest.param([("b", "4"), ("A", "5")], ((b"b", b"4"), (b"A", b"5")), id="several"),
    ],
)
def test_ours_replace_theirs(ours: list[tuple[str, str]], expected: Fields) -> None:
    assert headers.replaced(((b"A", b"1"), (b"B", b"2"), (b"a", b"3")), ours) == expected


@given(FIELDS)
def test_replacing_twice_changes_nothing(fields: Fields) -> None:
    once = headers.replaced(fields, [("A", "x"), ("Via", "y")])
    assert headers.replaced(once, [("A", "x"), ("Via", "y")]) == once


@pytest.mark.parametrize(
    ("name", "value"),
    [
        pytest.param(b"Content-Digest", b"sha-256=:x:", id="content-digest"),
        pytest.param(b"repr-digest", b"", id="repr-digest"),
        pytest.param(b"DIGEST", b"SHA-256=x", id="digest"),
        pytest.param(b"Content-MD5", b"x", id="md5"),
        pytest.param(b"Signature", b"sig1=:x:", id="signature"),
        pytest.param(b"Cache-Control", b"no-transform", id="no-transform"),
        pytest.param(b"cache-control", b"max-age=0 ,NO-TRANSFORM", id="no-transform-in-a-list"),
    ],
)
def test_body_is_covered(name: bytes, value: bytes) -> None:
    assert headers.is_covered(((b"Accept", b"a"), (name, value)))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        pytest.param(b"Want-Repr-Digest", b"sha-256=1", id="digest-that-is-asked-for"),
        pytest.param(b"Cache-Control", b"no-cache, no-store", id="other-directives"),
        pytest.param(b"Cache-Control", b"x-no-transform", id="longer-directive"),
        pytest.param(b"Pragma", b"no-transform", id="other-field"),
        pytest.param(b"Authorization", b"Bearer x", id="bearer-token"),
    ],
)
def test_body_is_not_covered(name: bytes, value: bytes) -> None:
    assert not headers.is_covered(((name, value),))
    assert not headers.is_covered(())


def test_head_is_written_as_it_is() -> None:
    fields = ((b"Host", b"a"), (b"X", b""), (b"x", b"tab\tand \xe9\xff"))
    assert headers.head(b"GET / HTTP/1.1", fields) == (
        b"GET / HTTP/1.1\r\nHost: a\r\nX: \r\nx: tab\tand \xe9\xff\r\n\r\n"
    )
    assert headers.head(b"HTTP/1.1 404 Nicht gefunden \xfc", ()) == b"HTTP/1.1 404 Nicht gefunden \xfc\r\n\r\n"


@pytest.mark.parametrize("control", [b"\r", b"\n", b"\r\n", b"\x00", b"\x0b", b"\x1b", b"\x1f", b"\x7f"])
def test_control_character_is_refused_in_every_part(control: bytes) -> None:
    for start_line, fields in [
        (b"GET /" + control + b" HTTP/1.1", ()),
        (b"GET / HTTP/1.1" + control, ()),
        (b"GET / HTTP/1.1", ((b"A", b"1"), (b"B" + control, b"2"))),
        (b"GET / HTTP/1.1", ((b"A", b"1" + control + b"Evil: 1"), (b"B", b"2"))),
    ]:
        with pytest.raises(ValueError, match="control character"):
            headers.head(start_line, fields)


@given(st.binary(), st.lists(st.tuples(st.binary(min_size=1), st.binary())).map(tuple))
def test_head_ends_where_it_should_or_is_refused(start_line: bytes, fields: Fields) -> None:
    try:
        written = headers.head(start_line, fields)
    except ValueError:
        assume(any(octet < 0x20 or octet == 0x7F for octet in b"".join((start_line, *map(b"".join, fields)))))
        return
    assert written.index(b"\r\n\r\n") == len(written) - 4
    assert written.count(b"\n") == written.count(b"\r") == len(fields) + 2


@pytest.mark.parametrize(
    ("text", "token"),
    [
        pytest.param("IsolationType", "IsolationType", id="name"),
        pytest.param("isolation_type", "isolation_type", id="snake"),
        pytest.param("isolation-type", "isolation-type", id="kebab"),
        pytest.param("Isolation Type", "Isolation%20Type", id="space"),
        pytest.param("a,b=c", "a%2Cb%3Dc", id="what-parts-the-list"),
        pytest.param("a%20b", "a%2520b", id="percent-sign"),
        pytest.param('a"b', "a%22b", id="quote"),
        pytest.param("a/b", "a%2Fb", id="slash"),
        pytest.param("a\r\nb", "a%0D%0Ab", id="line-break"),
        pytest.param("\u00e9", "%C3%A9", id="beyond-ascii"),
        pytest.param("\U0001f600", "%F0%9F%98%80", id="beyond-16-bits"),
        pytest.param("!#$&'*+^`|~.", "!#$&'*+^`|~.", id="signs-of-a-token"),
    ],
)
def test_text_is_escaped_to_a_token(text: str, token: str) -> None:
    assert headers.as_token(text) == token


def test_lone_surrogate_is_escaped_too() -> None:
    assert TOKEN.fullmatch(headers.as_token("a\ud800"))


@pytest.mark.parametrize(
    ("value", "is_one"),
    [
        pytest.param(b"api.test", True, id="name"),
        pytest.param(b"my_sidecar:8080", True, id="underscore-and-port"),
        pytest.param(b"127.0.0.1:", True, id="empty-port"),
        pytest.param(b"[::1]:80", True, id="ip-version-6"),
        pytest.param(b"", False, id="nothing"),
        pytest.param(b"a b", False, id="space"),
        pytest.param(b"a/path", False, id="path"),
        pytest.param(b"me@a", False, id="user"),
        pytest.param(b"a, b", False, id="list"),
        pytest.param(b"a:80:90", False, id="two-ports"),
        pytest.param(b"a\n", False, id="line-feed"),
    ],
)
def test_an_authority_is_host_and_port_alone(*, value: bytes, is_one: bool) -> None:
    assert headers.is_authority(value) is is_one


@given(st.text())
def test_token_can_be_read_back(text: str) -> None:
    token = headers.as_token(text)
    assert TOKEN.fullmatch(token)
    assert unquote(token) == text


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        pytest.param(((b"X-A", b"1"), (b"x-a", b"")), ((b"X-A", b"1"), (b"x-a", b"")), id="names"),
        pytest.param(((b"X-A ", b"1"), (b"B\t ", b"2")), ((b"X-A", b"1"), (b"B", b"2")), id="space-behind"),
        pytest.param(((b"Transfer-Encoding ", b"chunked"),), None, id="space-behind-a-name-of-framing"),
        pytest.param(((b"content-length\t", b"2"),), None, id="tab-behind-a-name-of-framing"),
        pytest.param(((b"Connection ", b"close"),), None, id="space-behind-a-hop-by-hop-name"),
        pytest.param(((b"X A", b"1"),), None, id="space-inside"),
        pytest.param(((b" X", b"1"),), None, id="space-before"),
        pytest.param(((b"", b"1"),), None, id="no-name"),
        pytest.param((), (), id="nothing"),
    ],
)
def test_names_of_a_response_are_put_right_or_refused(
    fields: tuple[tuple[bytes, bytes], ...], named: tuple[tuple[bytes, bytes], ...] | None
) -> None:
    assert headers.named(fields) == named


@pytest.mark.parametrize(
    ("text", "counts"),
    [("0", True), ("9" * 18, True), ("1" * 19, False), ("", False), ("-1", False), ("+1", False), ("\u0663", False)],
)
def test_a_length_can_be_counted(*, text: str, counts: bool) -> None:
    assert headers.is_length(text) is counts


@pytest.mark.parametrize(
    ("value", "alone"),
    [
        (None, True), (b"chunked", True), (b" Chunked\t", True), (b"gzip, chunked", False),
        (b"chunked, chunked", False), (b"", False), (b"identity", False), (b"chunked;x=1", False),
    ],
)  # fmt: skip
def test_chunked_is_the_only_transfer_coding(*, value: bytes | None, alone: bool) -> None:
    fields = () if value is None else ((b"Transfer-encoding", value),)
    assert headers.is_chunked_alone(fields) is alone


def test_two_lines_of_transfer_codings_are_not_chunked_alone() -> None:
    assert not headers.is_chunked_alone(((b"Transfer-Encoding", b"chunked"),) * 2)


def test_size_is_that_of_the_lines() -> None:
    fields = ((b"A", b"b"), (b"Long-Name", b""))
    assert headers.size(fields) == len(b"A: b\r\nLong-Name: \r\n")


@pytest.mark.parametrize(
    ("media_type", "is_json"),
    [
        pytest.param("application/json", True, id="json"),
        pytest.param("APPLICATION/Json", True, id="letter-case"),
        pytest.param(" application/json ; charset=utf-8", True, id="parameter"),
        pytest.param("text/json", True, id="text-json"),
        pytest.param("application/problem+json", True, id="problem"),
        pytest.param("application/vnd.x.v1+JSON;a=b", True, id="vendor"),
        pytest.param("text/plain", False, id="text"),
        pytest.param("application/jsonx", False, id="longer-name"),
        pytest.param("application/json+xml", False, id="other-suffix"),
        pytest.param("x/y+json", False, id="other-tree"),
        pytest.param("text/html; x=application/json", False, id="json-in-a-parameter"),
        pytest.param("", False, id="empty"),
    ],
)
def test_json_media_types(*, media_type: str, is_json: bool) -> None:
    assert headers.is_json_media_type(media_type) is is_json


def test_fields_of_another_body() -> None:
    fields = (
        (b"Server", b"x"),
        (b"CONTENT-TYPE", b"text/html"),
        *((name, b"x") for name in (b"Content-Encoding", b"ETag", b"Digest", b"Content-Digest", b"Repr-Digest")),
        *((name, b"x") for name in (b"Content-MD5", b"Content-Range", b"Last-Modified", b"Accept-Ranges")),
        *((name, b"x") for name in (b"Transfer-Encoding", b"Content-Length", b"Signature", b"Signature-Input")),
        (b"Set-Cookie", b"a"),
        (b"Set-Cookie", b"b"),
    )
    kept = ((b"Set-Cookie", b"a"), (b"Set-Cookie", b"b"))
    assert headers.of_another_body(fields) == ((b"Server", b"x"), (b"CONTENT-TYPE", b"text/html"), *kept)
    assert headers.of_another_body(fields, b"a/b") == ((b"Server", b"x"), (b"CONTENT-TYPE", b"a/b"), *kept)
    assert headers.of_another_body((), b"a/b") == ((b"Content-Type", b"a/b"),)


def test_a_field_is_set_where_it_stands() -> None:
    fields = ((b"a", b"1"), (b"B", b"2"), (b"b", b"3"), (b"c", b"4"))
    assert headers.set_in_place(fields, b"b", b"5") == ((b"a", b"1"), (b"B", b"5"), (b"c", b"4"))
    assert headers.set_in_place(fields[:1], b"b", b"5") == ((b"a", b"1"), (b"b", b"5"))


@pytest.mark.parametrize(
    ("value", "forbids"),
    [
        pytest.param(b"no-transform", True, id="alone"),
        pytest.param(b"private, No-Transform , max-age=1", True, id="among-others"),
        pytest.param(b"no-transformation", False, id="longer-word"),
        pytest.param(b"", False, id="empty"),
    ],
)
def test_no_transform(*, value: bytes, forbids: bool) -> None:
    assert headers.forbids_transform(((b"Cache-Control", value),)) is forbids


# Looking fields up by an index changes nothing but what it costs.

NAMES_LOOKED_UP = (b"connection", b"via", b"transfer-encoding", b"cache-control", b"content-encoding", b"x-a")
FIELDS = st.lists(
    st.tuples(
        st.sampled_from(NAMES_LOOKED_UP).flatmap(lambda name: st.sampled_from([name, name.title(), name.upper()]))
        | st.sampled_from([b"Digest", b"Host", b"Trailer", b"X-Other", b""]),
        st.sampled_from(
            [b"", b"close, x-a", b"X-OTHER", b"1.1 defender-sidecar", b"chunked", b"no-transform", b"gzip", b"identity"]
        ),
    ),
    max_size=8,
).map(tuple)


@given(FIELDS)
def test_indexed_fields_answer_as_plain_ones_do(fields: Fields) -> None:
    indexed = headers.IndexedFields(fields)
    assert indexed == fields
    for name in NAMES_LOOKED_UP:
        assert headers.values(indexed, name) == headers.values(fields, name)
        assert headers.joined(indexed, name) == headers.joined(fields, name)
    for asked in (
        *(headers.end_to_end_response, headers.leads_back, headers.is_chunked_alone, headers.is_coded),
        *(headers.is_covered, headers.forbids_transform, headers.size, headers.of_another_body),
    ):
        assert asked(indexed) == asked(fields), asked
    crossing = headers.end_to_end_response(indexed)
    for name in (*NAMES_LOOKED_UP, b"x-other"):
        assert headers.values(crossing, name) == headers.values(tuple(crossing), name)
        assert headers.without(indexed, name) == headers.without(fields, name)
        assert headers.replaced(indexed, [(name.decode(), "1")]) == headers.replaced(fields, [(name.decode(), "1")])
    assert headers.end_to_end_request(indexed, b"1.1") == headers.end_to_end_request(fields, b"1.1")


def test_a_value_that_was_asked_for_is_the_order_of_its_lines() -> None:
    fields = headers.IndexedFields(((b"Via", b"a"), (b"X", b"b"), (b"VIA", b"c")))
    assert headers.values(fields, b"via") == [b"a", b"c"]
    assert headers.values(fields, b"host") == []
    assert headers.values(fields[:2], b"via") == [b"a"]


@pytest.mark.parametrize("place", ["start", "name", "value"])
@pytest.mark.parametrize("code", range(256))
def test_a_head_holds_no_control_character_wherever_it_stands(code: int, place: str) -> None:
    parts = {"start": b"GET / HTTP/1.1", "name": b"X-A", "value": b"1"}
    parts[place] += bytes([code]) + b"z"
    fields = ((b"Host", b"h"), (parts["name"], parts["value"]), (b"X-B", b"2"))
    is_allowed = code == 0x09 or (code >= 0x20 and code != 0x7F)
    assert headers.is_valid(parts["start"], fields) is is_allowed
    if is_allowed:
        headers.head(parts["start"], fields)
    else:
        with pytest.raises(ValueError, match="control character"):
            headers.head(parts["start"], fields)


@pytest.mark.parametrize("code", range(256))
def test_a_name_of_a_response_holds_what_a_token_may(code: int) -> None:
    fields = ((b"X-A", b"1"), (b"a" + bytes([code]) + b"z", b"2"))
    assert (headers.named(fields) is not None) is (TOKEN.fullmatch(chr(code)) is not None)


_BYTES = st.binary(max_size=6) | st.sampled_from([b"Host", b"X-Y", b"a b", b"a\tb", b"\xff", b"X ", b"Connection\t"])
_LINES = st.lists(st.tuples(_BYTES.filter(bool), _BYTES), max_size=4).map(tuple)


@given(_BYTES, _LINES)
def test_a_head_is_written_where_its_parts_are_valid(start_line: bytes, fields: Fields) -> None:
    if headers.is_valid(start_line, fields):
        lines = [start_line, *(name + b": " + value for name, value in fields)]
        assert headers.head(start_line, fields) == b"".join(line + b"\r\n" for line in [*lines, b""])
    else:
        with pytest.raises(ValueError, match="control character"):
            headers.head(start_line, fields)


@given(_LINES)
def test_fields_are_received_as_each_rule_has_them(fields: Fields) -> None:
    is_valid = not any(re.search(rb"[\x00-\x08\x0a-\x1f\x7f]", value) for _, value in fields)
    assert headers.received(fields) == (headers.named(fields) if is_valid else None)


@pytest.mark.parametrize(("piece", "chunk"), [(b"a", b"1\r\na\r\n"), (b"b" * 26, b"1a\r\n" + b"b" * 26 + b"\r\n")])
def test_a_chunk_has_its_size_in_hexadecimal(piece: bytes, chunk: bytes) -> None:
    assert headers.chunk(piece) == chunk
