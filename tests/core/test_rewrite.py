from __future__ import annotations

import json
from itertools import pairwise

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from proxy.core.rewrite import (
    LinkRewriter,
    authority_at,
    coding_of_page,
    names_location,
    origin_of,
    own_authority,
    relocated,
)

UPSTREAM = "https://api.security.microsoft.com"
OWN = b"http://127.0.0.1:8080"
ORIGIN = origin_of(UPSTREAM)
REST = f"/a%2Fb/../%7e;x?u={UPSTREAM}&&"


def turned(text: bytes, *cuts: int, upstream: str = UPSTREAM, own: bytes = OWN) -> bytes:
    """Return `text` rewritten in pieces that end at `cuts`."""
    rewriter = LinkRewriter(origin_of(upstream), own)
    edges = [0, *sorted(min(cut, len(text)) for cut in cuts), len(text)]
    out = b"".join(rewriter.feed(text[begin:end]) for begin, end in pairwise(edges))
    out += rewriter.end()
    assert rewriter.has_changed == (out != text)
    return out


def link(url: str, name: str = "@odata.nextLink") -> bytes:
    return f'{{"value": [], "{name}": "{url}"}}'.encode()


class TestUrls:
    @pytest.mark.parametrize(
        ("upstream", "before", "after"),
        [
            pytest.param(UPSTREAM, f"{UPSTREAM}/api?$skip=2", "http://127.0.0.1:8080/api?$skip=2", id="plain"),
            pytest.param(UPSTREAM, UPSTREAM, "http://127.0.0.1:8080", id="no-path"),
            pytest.param(UPSTREAM, f"{UPSTREAM}?a#b", "http://127.0.0.1:8080?a#b", id="query-alone"),
            pytest.param(UPSTREAM, f"{UPSTREAM}#b", "http://127.0.0.1:8080#b", id="fragment-alone"),
            pytest.param(UPSTREAM, f"{UPSTREAM}:443/a", "http://127.0.0.1:8080/a", id="default-port"),
            pytest.param(UPSTREAM, f"{UPSTREAM}:/a", "http://127.0.0.1:8080/a", id="empty-port"),
            pytest.param(UPSTREAM, "HTTPS://API.Security.Microsoft.COM/A", "http://127.0.0.1:8080/A", id="letter-case"),
            pytest.param(UPSTREAM, "//api.security.microsoft.com/a", "http://127.0.0.1:8080/a", id="no-scheme"),
            pytest.param(UPSTREAM, f"{UPSTREAM}{REST}", f"http://127.0.0.1:8080{REST}", id="rest-byte-for-byte"),
            pytest.param("http://localhost:8081", "http://localhost:8081/a", "http://127.0.0.1:8080/a", id="port"),
            pytest.param("http://[::1]:8081", "http://[::1]:8081/a", "http://127.0.0.1:8080/a", id="ipv6-port"),
            pytest.param("http://[::1]", "http://[::1]:80/a", "http://127.0.0.1:8080/a", id="ipv6"),
        ],
    )  # fmt: skip
    def test_the_upstreams_are_turned(self, upstream: str, before: str, after: str) -> None:
        fields = relocated(((b"LOCATION", before.encode()),), origin_of(upstream), OWN)
        assert fields == ((b"LOCATION", after.encode()),)
        assert turned(link(before), upstream=upstream) == link(after)

    @pytest.mark.parametrize(
        ("upstream", "url"),
        [
            pytest.param(UPSTREAM, f"{UPSTREAM}.evil.test/a", id="longer-host"),
            pytest.param(UPSTREAM, f"{UPSTREAM}./a", id="trailing-dot"),
            pytest.param(UPSTREAM, f"{UPSTREAM}@evil.test/a", id="user"),
            pytest.param(UPSTREAM, f"{UPSTREAM}:443@evil.test/a", id="user-and-password"),
            pytest.param(UPSTREAM, "https://me@api.security.microsoft.com/a", id="user-before"),
            pytest.param(UPSTREAM, f"{UPSTREAM}:8443/a", id="other-port"),
            pytest.param(UPSTREAM, f"{UPSTREAM}:4430/a", id="longer-port"),
            pytest.param(UPSTREAM, "http://api.security.microsoft.com/a", id="other-scheme"),
            pytest.param(UPSTREAM, "https://apixsecurity.microsoft.com/a", id="dot-is-a-dot"),
            pytest.param(UPSTREAM, "https://eu.api.security.microsoft.com/a", id="subdomain"),
            pytest.param(UPSTREAM, f"{UPSTREAM}%2F", id="escaped-slash-in-host"),
            pytest.param(UPSTREAM, "/api/alerts?$skip=2", id="path"),
            pytest.param(UPSTREAM, "api/alerts", id="relative"),
            pytest.param(UPSTREAM, f" {UPSTREAM}/a", id="space-before"),
            pytest.param(UPSTREAM, "https://api.\u017fecurity.microsoft.com/a", id="long-s"),
            pytest.param(UPSTREAM, "", id="empty"),
            pytest.param("http://localhost:8081", "http://localhost/a", id="port-missing"),
            pytest.param("http://localhost:8081", "http://localhost:80811/a", id="port-begins-alike"),
        ],
    )
    def test_no_other_is_touched(self, upstream: str, url: str) -> None:
        fields = ((b"Location", url.encode()),)
        assert relocated(fields, origin_of(upstream), OWN) == fields
        assert turned(link(url), upstream=upstream) == link(url)

    def test_a_bare_backslash_ends_no_authority(self) -> None:
        fields = ((b"Location", UPSTREAM.encode() + b"\\@evil.test"),)
        assert relocated(fields, ORIGIN, OWN) == fields
        body = link(UPSTREAM + "\\\\@evil.test")
        assert turned(body) == body

    @pytest.mark.parametrize("name", [b"Location", b"content-location", b"Operation-Location", b"Azure-AsyncOperation"])
    def test_fields_that_are_followed(self, name: bytes) -> None:
        fields = ((b"A", b"1"), (name, b"%b/x" % UPSTREAM.encode()), (b"A", b"2"))
        assert names_location(fields)
        assert relocated(fields, ORIGIN, OWN) == ((b"A", b"1"), (name, OWN + b"/x"), (b"A", b"2"))

    @pytest.mark.parametrize("name", [b"WWW-Authenticate", b"Link", b"X-Location", b"Content-Type"])
    def test_fields_that_are_not(self, name: bytes) -> None:
        fields = ((name, b"%b/x" % UPSTREAM.encode()),)
        assert not names_location(fields)
        assert relocated(fields, ORIGIN, OWN) == fields


class TestOwnAddress:
    @pytest.mark.parametrize(
        ("target", "hosts", "authority"),
        [
            pytest.param(b"/api", [b"sidecar:8080"], b"sidecar:8080", id="host"),
            pytest.param(b"/api", [b"127.0.0.1"], b"127.0.0.1", id="ipv4"),
            pytest.param(b"/api", [b"[::1]:8080"], b"[::1]:8080", id="ipv6"),
            pytest.param(b"/api", [b"[v1.a:b]"], b"[v1.a:b]", id="ip-future"),
            pytest.param(b"/api", [b"a%20b:"], b"a%20b:", id="escape-and-empty-port"),
            pytest.param(b"http://one:1/api", [b"two"], b"one:1", id="absolute-form"),
            pytest.param(b"http://one?q", [b"two"], b"one", id="absolute-form-without-path"),
            pytest.param(b"http://me@one/api", [b"two"], b"two", id="absolute-form-with-user"),
            pytest.param(b"http:///api", [b"two"], b"two", id="absolute-form-without-host"),
            pytest.param(b"/api", [], None, id="none"),
            pytest.param(b"/api", [b""], None, id="empty"),
            pytest.param(b"/api", [b":80"], None, id="port-alone"),
            pytest.param(b"/api", [b"me@sidecar"], None, id="user"),
            pytest.param(b"/api", [b"sidecar/path"], None, id="path"),
            pytest.param(b"/api", [b'a"b'], None, id="quote"),
            pytest.param(b"/api", [b"a\\b"], None, id="backslash"),
            pytest.param(b"/api", [b"a b"], None, id="space"),
            pytest.param(b"/api", [b"a:b"], None, id="port-is-no-number"),
            pytest.param(b"/api", [b"a:123456"], None, id="port-too-long"),
            pytest.param(b"/api", [b"::1"], None, id="ipv6-without-brackets"),
            pytest.param(b"/api", [b"\xe9.test"], None, id="not-ascii"),
            pytest.param(b"/api", [b"a%zz"], None, id="no-escape"),
            pytest.param(b"/api", [b"a" * 256], None, id="too-long"),
            pytest.param(b"/api", [b"a\n"], None, id="line-feed"),
        ],
    )
    def test_as_the_client_names_it(self, target: bytes, hosts: list[bytes], authority: bytes | None) -> None:
        assert own_authority(target, hosts) == authority

    @pytest.mark.parametrize(
        ("address", "authority"),
        [
            pytest.param(("127.0.0.1", 8080), b"127.0.0.1:8080", id="ipv4"),
            pytest.param(("fe80::1%eth0", 80, 0, 2), b"[fe80::1]:80", id="ipv6"),
            pytest.param("/run/proxy.sock", None, id="unix"),
            pytest.param(None, None, id="closed"),
        ],
    )
    def test_as_the_socket_names_it(self, address: object, authority: bytes | None) -> None:
        assert authority_at(address) == authority


class TestWhichBodies:
    @pytest.mark.parametrize(
        ("status", "fields", "coding"),
        [
            (200, {}, ""),
            (201, {}, ""),
            (200, {"Content-Type": "application/json;odata.metadata=minimal; charset=utf-8"}, ""),
            (200, {"Content-Type": "application/vnd.x+json"}, ""),
            (200, {"Content-Encoding": "GZip"}, "gzip"),
            (200, {"Content-Encoding": "x-gzip"}, "gzip"),
            (200, {"Content-Encoding": "deflate"}, "deflate"),
            (200, {"Content-Encoding": "identity"}, ""),
            (200, {"Content-Encoding": "br"}, None),
            (200, {"Content-Encoding": "gzip, gzip"}, None),
            (200, {"Content-Type": "text/html"}, None),
            (200, {"Content-Type": ""}, None),
            (200, {"Cache-Control": "no-store, No-Transform"}, None),
            (200, {"Digest": "sha-256=x"}, None),
            (200, {"Content-MD5": "x"}, None),
            (200, {"Repr-Digest": "sha-256=:x:"}, None),
            (200, {"Signature": "sig=:x:"}, None),
            (200, {"Content-Range": "bytes 0-1/2"}, None),
            (206, {}, None),
            (204, {}, None),
            (205, {}, None),
            (304, {}, None),
            (302, {}, None),
            (404, {}, None),
        ],
    )
    def test_table(self, status: int, fields: dict[str, str], coding: str | None) -> None:
        lines = {"Content-Type": "application/json"} | fields
        assert coding_of_page(status, tuple((k.encode(), v.encode()) for k, v in lines.items())) == coding


class TestLinks:
    @pytest.mark.parametrize(
        "name",
        ["@odata.nextLink", "alerts@odata.nextLink", "@nextLink", "alerts@nextLink", "odata.nextLink", "nextLink"],
    )
    def test_names(self, name: str) -> None:
        assert turned(link(f"{UPSTREAM}/a", name)) == link("http://127.0.0.1:8080/a", name)

    @pytest.mark.parametrize(
        "name",
        [
            "@odata.context",
            "@odata.id",
            "@odata.nextlink",
            "nextLinks",
            "myNextLink",
            "odata_nextLink",
            "x.odata.nextLink",
            '\\"nextLink',
            '\\"odata.nextLink',
            "url",
        ],
    )
    def test_no_other_member_is_touched(self, name: str) -> None:
        body = link(f"{UPSTREAM}/a", name)
        assert turned(body) == body

    @pytest.mark.parametrize(
        "body",
        [
            pytest.param(b'{"a": "@odata.nextLink", "b": "%b/"}', id="a-value-of-that-name"),
            pytest.param(b'{"@odata.nextLink": null, "b": "%b/"}', id="null"),
            pytest.param(b'{"@odata.nextLink": ["%b/"]}', id="array"),
            pytest.param(b'{"@odata.nextLink": {"a": "%b/"}}', id="object"),
            pytest.param(b'{"a": "{\\"@odata.nextLink\\": \\"%b/\\"}"}', id="json-within-a-string"),
            pytest.param(b'["@odata.nextLink", "%b/"]', id="in-an-array"),
            pytest.param(b'{"@odata.nextLink" "%b/"}', id="no-colon"),
            pytest.param(b'{"@odata.nextLink": "%b', id="cut-off"),
        ],
    )
    def test_places_that_are_none(self, body: bytes) -> None:
        body %= UPSTREAM.encode()
        assert turned(body) == body

    def test_white_space_without_end(self) -> None:
        space = b" \r\n\t" * 50_000
        before = b'{"@odata.nextLink"' + space + b":" + space + b'"https://api.security.microsoft.com/a"}'
        after = before.replace(UPSTREAM.encode(), OWN)
        assert turned(before) == turned(before, *range(0, len(before), 4096)) == after

    def test_escaped_slashes_stay_escaped(self) -> None:
        body = link("https:\\/\\/api.security.microsoft.com\\/api\\/alerts")
        assert turned(body) == link("http:\\/\\/127.0.0.1:8080\\/api\\/alerts")
        assert json.loads(turned(body))["@odata.nextLink"] == "http://127.0.0.1:8080/api/alerts"

    def test_many_links_nested(self) -> None:
        nested = b'{"value":[%b],"@odata.nextLink":"https://api.security.microsoft.com/z"}' % b",".join(
            link(f"{UPSTREAM}/{number}", "alerts@odata.nextLink") for number in range(100)
        )
        assert turned(nested) == nested.replace(UPSTREAM.encode(), OWN)

    @pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-32"])
    def test_other_encodings_pass(self, encoding: str) -> None:
        body = link(f"{UPSTREAM}/a").decode().encode(encoding)
        assert turned(body) == body

    def test_what_is_held_back(self) -> None:
        """Only what may be the beginning of the origin is; everything else goes out as it comes."""
        rewriter = LinkRewriter(ORIGIN, OWN)
        before, after = b'{"@odata.nextLink": "', b'https://api.security.microsoft.com/a", "b": 1}'
        assert b"".join(rewriter.feed(bytes([byte])) for byte in before) == before
        held = 0
        sent = b""
        for byte in after:
            sent += rewriter.feed(bytes([byte]))
            held = max(held, len(rewriter._carry))  # noqa: SLF001 - the bound is what this is about
        assert sent == OWN + b'/a", "b": 1}'
        assert held <= ORIGIN.longest_bytes

    def test_memory_is_bounded(self) -> None:
        rewriter = LinkRewriter(ORIGIN, OWN)
        for piece in (b'{"@odata.nextLink": ', b" " * 10_000, b'"x', b"x" * 10_000, b'"@odata.', b"nextLink" * 5000):
            rewriter.feed(piece)
            assert len(rewriter._carry) < 100  # noqa: SLF001


# What makes the difference at a cut, and what is near to it.
FRAGMENTS = st.sampled_from(
    [
        b'"', b"\\", b'\\"', b"@", b"odata.", b"nextLink", b'nextLink"', b'"@odata.nextLink"', b'"nextLink"', b":",
        b" ", b"\n", b"https:", b"//", b"\\/\\/", b"api.security.microsoft.com", b":443", b"/", b"\\/", b"?", b".evil",
        b'"@odata.nextLink": "https://api.security.microsoft.com/a"', b'"a@nextLink":"//api.security.microsoft.com"',
        b"@x", b"{", b"}", b",", b"null", b"\xff", b"\x00",
    ]
)  # fmt: skip
TEXTS = st.lists(FRAGMENTS | st.binary(max_size=3), max_size=20).map(b"".join)
CUTS = st.lists(st.integers(0, 400), max_size=8)


class TestProperties:
    @given(TEXTS, CUTS)
    @example(b'"\\"nextLink"xxxxxxxx":"https://api.security.microsoft.com/', [18])
    @example(b'\\"nextLink"' + b"x" * 6 + b': "//api.security.microsoft.com/"', [17])
    def test_cuts_make_no_difference(self, text: bytes, cuts: list[int]) -> None:
        assert turned(text, *cuts) == turned(text) == turned(text, *range(len(text)))

    @given(st.binary(max_size=400), CUTS)
    def test_bytes_without_a_link_come_out_as_they_are(self, text: bytes, cuts: list[int]) -> None:
        assert turned(text, *cuts) == text

    @given(
        st.recursive(
            st.none() | st.booleans() | st.floats(allow_nan=False) | st.text() | st.just(f"{UPSTREAM}/a"),
            lambda inner: (
                st.lists(inner, max_size=4)
                | st.dictionaries(st.text() | st.sampled_from(["@odata.nextLink", "a@odata.nextLink", "url"]), inner)
            ),
            max_leaves=20,
        ),
        st.sampled_from([None, 1]),
    )
    def test_it_does_what_a_parser_would(self, document: object, indent: int | None) -> None:
        def expected(value: object, name: str = "") -> object:
            if isinstance(value, dict):
                return {key: expected(inner, key) for key, inner in value.items()}
            if isinstance(value, list):
                return [expected(inner) for inner in value]
            if isinstance(value, str) and name.endswith("@odata.nextLink") and value.startswith(f"{UPSTREAM}/"):
                return OWN.decode() + value[len(UPSTREAM) :]
            return value

        for ascii_alone in (True, False):
            text = json.dumps(document, indent=indent, ensure_ascii=ascii_alone).encode("utf-8", "surrogatepass")
            assert json.loads(turned(text)) == json.loads(
                json.dumps(expected(document), ensure_ascii=ascii_alone).encode("utf-8", "surrogatepass")
            )
