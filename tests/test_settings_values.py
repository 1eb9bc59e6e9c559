"""Values: every spelling that is taken, and for every other its remedy."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.core.model import Mode
from proxy.settings import Settings, load_settings
from proxy.settings_values import Address, LogLevel
from tests.loading import answer, problem, variable


def value_of(settings: Settings, key: str) -> Any:
    value: Any = settings
    for name in key.split("."):
        value = getattr(value, name)
    return value


def from_environment(key: str, text: str) -> Any:
    return value_of(load_settings(None, {variable(key): text}, {}).settings, key)


@pytest.mark.parametrize(
    ("key", "text", "value"),
    [
        pytest.param("listen", "0.0.0.0:80", Address("0.0.0.0", 80), id="wildcard"),  # noqa: S104 - compared, not bound
        pytest.param("listen", "127.0.0.1:0", Address("127.0.0.1", 0), id="any-free-port"),
        pytest.param("listen", "[::1]:80", Address("::1", 80), id="ipv6"),
        pytest.param("listen", "[0:0::1]:80", Address("::1", 80), id="ipv6-in-its-usual-spelling"),
        pytest.param("listen", "proxy_1.local:65535", Address("proxy_1.local", 65535), id="name"),
        pytest.param("upstream.url", "https://api.security.microsoft.com/", "https://api.security.microsoft.com"),
        pytest.param("upstream.url", "HTTP://Host.Example:8080", "http://host.example:8080", id="lower-case"),
        pytest.param("upstream.url", "https://host:443", "https://host", id="own-port-of-https"),
        pytest.param("upstream.url", "http://host:80/", "http://host", id="own-port-of-http"),
        pytest.param("upstream.url", "http://host:443", "http://host:443", id="foreign-port"),
        pytest.param("upstream.url", "http://host:", "http://host", id="empty-port"),
        pytest.param("upstream.url", "http://[::1]:9000", "http://[::1]:9000", id="url-with-ipv6"),
        pytest.param("upstream.url", "http://10.0.0.1", "http://10.0.0.1", id="url-with-ipv4"),
        pytest.param("upstream.connect_timeout_s", "0.25", 0.25, id="fraction"),
        pytest.param("upstream.connect_timeout_s", "1e2", 100.0, id="exponent"),
        pytest.param("drain.delay_s", "0", 0.0, id="no-delay"),
        pytest.param("limits.body_bytes", "0", 0, id="no-limit"),
        pytest.param("log.repeats_per_minute", "0", 0, id="no-limit-of-things"),
        pytest.param("limits.head_bytes", "65_536", 65536, id="grouped-digits"),
        pytest.param("log.requests", "true", True, id="true"),
        pytest.param("log.requests", "1", True, id="one"),
        pytest.param("log.requests", "YES", True, id="yes"),
        pytest.param("check.report_header", "false", False, id="false"),
        pytest.param("check.report_header", "0", False, id="zero"),
        pytest.param("check.report_header", "No", False, id="no"),
        pytest.param("check.mode", "fix", Mode.FIX, id="mode"),
        pytest.param("log.level", "debug", LogLevel.DEBUG, id="level"),
        pytest.param("headers.target_id", "x-target", "x-target", id="field-name"),
        pytest.param("catalog.files", '["a.yaml", "/b.yaml"]', (Path("a.yaml"), Path("/b.yaml")), id="json-paths"),
    ],
)
def test_text_becomes_a_value(key: str, text: str, value: object) -> None:
    held = from_environment(key, text)
    assert held == value
    assert type(held) is type(value)


@pytest.mark.parametrize(
    ("key", "text", "remedy"),
    [
        pytest.param("listen", "8080", "such as 127.0.0.1:8080; did you mean 127.0.0.1:8080?", id="port-alone"),
        pytest.param("admin", "10.0.0.1", "such as 127.0.0.1:9464; did you mean 10.0.0.1:9464?", id="host-alone"),
        pytest.param("listen", ":8080", "must name a host: 0.0.0.0:8080 for all interfaces", id="no-host"),
        pytest.param("listen", "*:8080", "did you mean 0.0.0.0:8080?", id="star"),
        pytest.param("listen", "::1:8080", "did you mean [::1]:8080?", id="ipv6-without-brackets"),
        pytest.param("listen", "::1", "did you mean [::1]:8080?", id="ipv6-alone"),
        pytest.param("listen", "http://0.0.0.0:80/", "did you mean 0.0.0.0:80?", id="url-as-address"),
        pytest.param("listen", "localhost:65536", "port from 0 to 65535", id="port-past-the-last"),
        pytest.param("listen", "localhost:http", "port from 0 to 65535", id="port-by-name"),
        pytest.param("listen", "localhost:٣", "port from 0 to 65535", id="port-in-arabic-digits"),
        pytest.param("listen", "256.0.0.1:80", "must be HOST:PORT", id="no-ipv4"),
        pytest.param("listen", "1:30", "must be HOST:PORT", id="number-for-a-host"),
        pytest.param("workers", "0", "must be a whole number, 1 or more", id="no-workers"),
        pytest.param("upstream.url", "api.example.com", "did you mean https://api.example.com?", id="no-scheme"),
        pytest.param("upstream.url", "localhost:9000", "did you mean https://localhost:9000?", id="host-and-port"),
        pytest.param("upstream.url", "https:/host", "did you mean https://host?", id="one-slash"),
        pytest.param("upstream.url", "http//host", "did you mean http://host?", id="no-colon"),
        pytest.param("upstream.url", "ftp://host", "must begin with https:// or http://", id="foreign-scheme"),
        pytest.param("upstream.url", "https://host/api", "must have no path: ", id="path"),
        pytest.param("upstream.url", "https://host/api", "did you mean https://host?", id="path-left-out"),
        pytest.param("upstream.url", "https://host/?a=b", "must have no query", id="query"),
        pytest.param("upstream.url", "https://host?", "must have no query", id="empty-query"),
        pytest.param("upstream.url", "https://host#", "must have no fragment", id="fragment"),
        pytest.param("upstream.url", "https://u:p@host", "no user name or password", id="userinfo"),
        pytest.param("upstream.url", "https://u:p@host", "did you mean https://host?", id="userinfo-left-out"),
        pytest.param("upstream.url", "https://", "must name a host", id="no-host-in-url"),
        pytest.param("upstream.url", "https://host:0", "port from 1 to 65535", id="no-port-zero-upstream"),
        pytest.param("upstream.url", "https://[::1", "must name a host", id="open-bracket"),
        pytest.param("upstream.url", "https://ho st", "without spaces", id="space"),
        pytest.param("upstream.url", "https://münchen.example", "visible ASCII", id="beyond-ascii"),
        pytest.param("upstream.connect_timeout_s", "nan", "number of seconds above 0", id="nan"),
        pytest.param("upstream.connect_timeout_s", "inf", "number of seconds above 0", id="infinity"),
        pytest.param("upstream.connect_timeout_s", "1e999", "number of seconds above 0", id="beyond-float"),
        pytest.param("upstream.connect_timeout_s", "0", "number of seconds above 0", id="zero-seconds"),
        pytest.param("drain.delay_s", "-1", "number of seconds, 0 or more", id="negative-delay"),
        pytest.param("upstream.connect_timeout_s", "10s", "did you mean 10?", id="seconds-with-unit"),
        pytest.param("upstream.connect_timeout_s", "500ms", "did you mean 0.5?", id="milliseconds"),
        pytest.param("upstream.response_timeout_s", "11m", "did you mean 660?", id="minutes"),
        pytest.param("limits.head_bytes", "64KiB", "did you mean 65536?", id="kibibytes"),
        pytest.param("limits.head_bytes", "0", "whole number of bytes, 1 or more", id="zero-bytes"),
        pytest.param("limits.body_bytes", "-1", "whole number of bytes, 0 or more", id="negative-bytes"),
        pytest.param("log.repeats_per_minute", "-1", "whole number, 0 or more", id="negative-number-or-no-limit"),
        pytest.param("limits.fields", "1.5", "whole number, 1 or more", id="half-a-field"),
        pytest.param("limits.fields", "010", "whole number, 1 or more", id="octal-or-not"),
        pytest.param("limits.fields", "9007199254740992", "at most 9007199254740991", id="beyond-json"),
        pytest.param("limits.fields", "9" * 5000, "whole number", id="five-thousand-digits"),
        pytest.param("log.requests", "on", "must be true or false", id="on"),
        pytest.param("log.level", "warn", "debug, info, warning or error; did you mean warning?", id="level"),
        pytest.param("log.level", "INFO", "did you mean info?", id="level-in-capitals"),
        pytest.param("check.mode", "off", "`off` goes under check.operations", id="off-for-all"),
        pytest.param("check.mode", "Reject", "did you mean reject?", id="mode-in-capitals"),
        pytest.param("headers.target_id", "X Target", "header field's name", id="field-with-space"),
        pytest.param("headers.target_id", "Content-Length", "HTTP itself gives this one a meaning", id="framing"),
        pytest.param("headers.target_id", "keep-alive", "HTTP itself gives this one a meaning", id="hop-by-hop"),
    ],
)
def test_a_bad_value_comes_with_its_remedy(key: str, text: str, remedy: str) -> None:
    found = problem(environment={variable(key): text})
    assert (found.key, found.origin) == (key, variable(key))
    assert remedy in found.message


def test_each_fault_of_a_url_has_its_own_remedy() -> None:
    message = problem(flags={"upstream.url": "https://u@host:99999/api?x#y"}).message
    for remedy in ("no user name", "port from 1", "no path", "no query", "no fragment"):
        assert remedy in message


@given(host=st.from_regex(r"[a-z]{1,9}(\.[a-z]{2,5})?", fullmatch=True), port=st.integers(0, 65535))
def test_an_address_is_written_as_it_was_read(host: str, port: int) -> None:
    assert str(from_environment("listen", f"{host}:{port}")) == f"{host}:{port}"


@given(url=st.from_regex(r"https?://[a-z0-9.:\[\]-]{1,30}/?", fullmatch=True))
def test_a_normal_url_stays_as_it_is(url: str) -> None:
    loaded = answer(None, {}, {"upstream.url": url})
    if loaded is not None:
        assert from_environment("upstream.url", loaded.settings.upstream.url) == loaded.settings.upstream.url
        assert not loaded.settings.upstream.url.endswith("/")
