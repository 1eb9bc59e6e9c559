"""Problems: what is shown of a value, none of it a secret."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.settings import describe, load_settings
from tests.loading import problem, problems

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        pytest.param("https://me:hunter2@host", "https://***@host", id="userinfo"),
        pytest.param("me:hunter2@host", "***@host", id="userinfo-without-scheme"),
        pytest.param("https//me:hunter2@host", "https//***@host", id="userinfo-behind-a-broken-scheme"),
        pytest.param("https://me:hun/ter2@host", "https://***@host", id="slash-in-password"),
        pytest.param("https://me:123/hunter2@host", "https://***@host", id="number-and-slash-in-password"),
        pytest.param("https://me:hunter2@@host", "https://***@host", id="at-in-password"),
        pytest.param("https://me:hun?ter2@host", "https://***", id="question-mark-in-password"),
        pytest.param("https://host?sig=hunter2", "https://host?***", id="query"),
        pytest.param("https://host/?a=1#hunter2", "https://host/?***", id="query-and-fragment"),
        pytest.param("https://host#hunter2", "https://host#***", id="fragment"),
        pytest.param("https://me@host?sig=hunter2", "https://***@host?***", id="userinfo-and-query"),
    ],
)
def test_secrets_in_a_url_are_masked(text: str, shown: str) -> None:
    found = problem(flags={"upstream.url": text})
    assert found.value == shown
    assert not re.search("me|hun|ter2|123", found.value + found.message.partition("; did you mean")[2])


@pytest.mark.parametrize(
    ("name", "text"),
    [
        pytest.param("UPSTREAM__TOKEN", "hunter2", id="secret-by-name"),
        pytest.param("UPSTREAM__PASSWORD", "hunter2", id="password"),
        pytest.param("UPSTREAM__ULR", "https://me:hunter2@host", id="url-under-an-unknown-key"),
        pytest.param("UPSTREAM", '{"auth": "hunter2"}', id="json"),
        pytest.param("LISTEN", "http://me:hunter2@host:80", id="url-for-an-address"),
        pytest.param("CATALOG__FILES", "https://me:hunter2@host/a b.yaml", id="url-for-a-path"),
    ],
)
def test_secrets_elsewhere_are_masked_too(name: str, text: str) -> None:
    assert "hunter2" not in str(problem(environment={f"DEFENDER_SIDECAR_{name}": text}))


def test_an_unknown_mapping_is_not_shown(written: Callable[[str], Path]) -> None:
    assert problem(written("auth: {client: hunter2}")).value == "{…}"


def test_an_operation_is_no_secret_for_its_name() -> None:
    loaded = load_settings(None, {"DEFENDER_SIDECAR_CHECK__OPERATIONS__resetPassword": "fix"}, {})
    assert ("check.operations.resetPassword", "fix") in [row[:2] for row in describe(loaded)]


@given(password=st.text("abcxyz/?#@:%", min_size=1).map(lambda text: f"s3cret{text}"), host=st.sampled_from(["h", ""]))
def test_no_password_is_ever_repeated(password: str, host: str) -> None:
    for text in (f"https://me:{password}@{host}", f"me:{password}@{host}", f"https://{host}?sig={password}"):
        for key in ("upstream.url", "listen"):
            for found in problems(flags={key: text}):
                assert "s3cret" not in str(found)
