"""The status page in Debian's Chromium: what a person sees of it, and what the browser would complain of."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pytest
from playwright.async_api import async_playwright, expect

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from playwright.async_api import Browser, BrowserContext, Page

    from proxy.simulator import Simulator
    from tests.conftest import Message, Proxied, Upstream

_UNPACKED: Final = Path(__file__).parents[1] / ".cache" / "chromium"
"""Where .ci/test unpacks Debian's packages."""

_PHONE: Final = {"width": 360, "height": 740}
_JSON: Final = b"Content-Type: application/json"
_ISOLATE: Final = ("POST", "/api/machines/1e5bc9d7e413/isolate", _JSON)

HOSTILE: Final = (
    "</script><script>window.hit=1</script></style><img src=x onerror=window.hit=1></noscript>"
    "<a href='javascript:window.hit=1'>here</a> \\u202egnp.exe {{script}} " + "W" * 700
)


def _chromium() -> tuple[str, dict[str, str]] | None:
    """Return the program and what its environment needs, or None where it is not there or does not run."""
    libraries = sorted({str(path.parent) for path in _UNPACKED.rglob("*.so*")})
    unpacked = _UNPACKED / "usr" / "lib" / "chromium" / "chromium"
    candidates = [
        (shutil.which("chromium"), {}),
        (str(unpacked) if unpacked.is_file() else None, {"LD_LIBRARY_PATH": os.pathsep.join(libraries)}),
    ]
    for program, environment in candidates:
        if program is not None:
            asked = (program, "--version")
            done = subprocess.run(asked, env=os.environ | environment, capture_output=True, check=False, timeout=60)
            if done.returncode == 0:
                return program, environment
    return None


CHROMIUM: Final = _chromium()

pytestmark = pytest.mark.skipif(
    CHROMIUM is None, reason="Chromium is not installed, or does not run here; .ci/test fetches Debian's"
)


@dataclass(slots=True)
class Window:
    """A page on the screen, and what was wrong with it or left the machine for it so far."""

    page: Page
    proxied: Proxied
    complaints: list[str] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)

    async def show(self) -> None:
        """Load the page and wait until it is kept up to date."""
        await self.page.goto(f"{self.proxied.admin_url}/")
        await expect(self.page.locator("#live")).to_have_text("live")

    async def errors(self) -> list[str]:
        """Return the target IDs of the errors that are to be seen, from top to bottom."""
        return await self.page.locator(".error:visible .ids dd:first-of-type code").all_inner_texts()

    async def is_too_wide(self) -> bool:
        return bool(await self.page.evaluate("document.documentElement.scrollWidth > innerWidth"))


@asynccontextmanager
async def _windows(browser: Browser, proxied: Proxied, **options: Any) -> AsyncIterator[Window]:
    context: BrowserContext = await browser.new_context(viewport=options.pop("viewport", None), **options)
    context.set_default_timeout(10_000)
    window = Window(await context.new_page(), proxied)
    page = window.page
    page.on("console", lambda message: window.complaints.append(message.text))
    page.on("pageerror", lambda error: window.complaints.append(str(error)))
    page.on("request", lambda request: window.requests.append(request.url))
    await page.add_init_script(
        "document.addEventListener('securitypolicyviolation', (e) => console.error('policy: ' + e.violatedDirective))"
    )
    try:
        yield window
    finally:
        await context.close()
    assert not window.complaints
    strays = [url for url in window.requests if not url.startswith((f"{proxied.admin_url}/", "data:"))]
    assert not strays


@pytest.fixture
async def browser() -> AsyncIterator[Browser]:
    assert CHROMIUM is not None
    program, environment = CHROMIUM
    async with async_playwright() as playwright:
        # Its own sandbox needs rights that neither root nor a container has; it meets this machine's pages alone.
        browser = await playwright.chromium.launch(
            executable_path=program, env={**os.environ, **environment}, chromium_sandbox=False
        )
        yield browser
        await browser.close()


@pytest.fixture
async def window(browser: Browser, proxied: Proxied) -> AsyncIterator[Window]:
    """A window on the page of a proxy before the simulator; nothing may be wrong with it at the end."""
    async with _windows(browser, proxied, viewport={"width": 1200, "height": 900}) as window:
        yield window


@pytest.fixture
def fail(proxied: Proxied, ask: Callable[..., Awaitable[Message]]) -> Callable[..., Awaitable[str]]:
    """Send a request that fails and return its target ID: `await fail("Forbidden")`, or any request."""

    async def fail(code: str = "Forbidden", *request: Any, path: str = "/api/machines", body: bytes = b"") -> str:
        given = request or ("GET", path, b"X-Simulate: " + code.encode())
        return (await ask(proxied, *given, body=body))["X-Target-Id"]

    return fail


async def test_an_empty_page_fills_itself(window: Window, fail: Callable[..., Awaitable[str]]) -> None:
    page = window.page
    await window.show()
    await expect(page.locator("#empty")).to_be_visible()
    await expect(page.locator("#empty pre")).to_have_count(2)
    await expect(page.locator("#errors")).to_be_hidden()

    target = await fail("Forbidden")

    await expect(page.locator(".error")).to_have_count(1)
    await expect(page.locator("#empty")).to_be_hidden()
    assert await window.errors() == [target]
    await expect(page.locator(".error h3")).to_contain_text("403Forbidden")
    await expect(page.locator("#count-rows tr")).to_have_text("Forbidden403upstream1")
    await expect(page.locator("#spoken")).to_have_text("1 new error: Forbidden")
    await expect(page).to_have_title("1 error · defender-sidecar")
    await page.get_by_text("What helps").click()
    await expect(page.locator(".help")).to_contain_text("Cause:")
    await expect(page.get_by_role("link", name="About this error")).to_have_attribute(
        "href", re.compile(r"https://learn\.microsoft\.com/")
    )


async def test_case_mismatches_stand_by_operation_with_their_fix(
    window: Window, fail: Callable[..., Awaitable[str]]
) -> None:
    for _ in range(2):
        await fail("", *_ISOLATE, body=b'{"comment": "x", "isolationType": "full"}')
    await fail("", "PATCH", "/api/alerts/1", _JSON, body=b'{"assignedto": "x"}')
    await window.show()
    operations = window.page.locator(".operation")
    await expect(operations).to_have_count(2)
    await expect(operations.first.locator("h3")).to_have_text("isolateMachinePOST /api/machines/{id}/isolate")
    await expect(operations.first.locator("li")).to_have_text(
        [
            "comment→Comment2 requestsrejected",
            "full→Fullvalue2 requestsrejected",
            "isolationType→IsolationType2 requestsrejected",
        ]
    )
    await expect(operations.last.locator("li")).to_have_text(["assignedto→assignedTo1 requestrejected"])

    await fail("", *_ISOLATE, body=b'{"COMMENT": "x", "IsolationType": "Full"}')
    await expect(operations.first.locator("li")).to_have_count(4)

    await fail("", *_ISOLATE, body=b'{"Coment": "x", "IsolationType": "Full"}')
    await expect(window.page.locator(".error")).to_have_count(5)
    await window.page.get_by_text("What helps").first.click()
    await expect(window.page.locator(".help").first).to_contain_text("/Coment is not documented; perhaps Comment was")


async def test_an_id_is_copied_or_selected(window: Window, fail: Callable[..., Awaitable[str]]) -> None:
    target, page = await fail(), window.page
    await page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    await window.show()
    await page.get_by_role("button", name="Copy target ID").focus()
    await page.keyboard.press("Enter")
    await expect(page.get_by_role("button", name="Copy target ID")).to_have_text("Copied")
    await expect(page.locator("#spoken")).to_have_text("target ID copied")
    assert await page.evaluate("navigator.clipboard.readText()") == target

    # As it is where the page was fetched in plain from another machine.
    await page.add_init_script("Object.defineProperty(Navigator.prototype, 'clipboard', { value: undefined })")
    await window.show()
    await page.get_by_role("button", name="Copy request ID").click()
    await expect(page.get_by_role("button", name="Copy request ID")).to_have_text(re.compile("Copied|Selected"))
    selected = await page.evaluate("String(getSelection())")
    assert selected == await page.locator(".ids dd:last-of-type code").inner_text()


async def test_filters(window: Window, fail: Callable[..., Awaitable[str]]) -> None:
    page = window.page
    forbidden = await fail("Forbidden")
    throttled = await fail("TooManyRequests", path="/api/alerts")
    refused = await fail("", *_ISOLATE, body=b'{"comment": "x"}')
    await window.show()
    assert await window.errors() == [refused, throttled, forbidden]

    await page.locator("#code").select_option("Forbidden")
    assert await window.errors() == [forbidden]
    await expect(page.locator("#shown")).to_have_text("1 of 3 errors")
    await page.get_by_role("button", name="Show all").click()
    await expect(page.locator(".error:visible")).to_have_count(3)

    await page.locator("#operation").select_option("listAlerts")
    assert await window.errors() == [throttled]
    await page.locator("#operation").select_option("")
    await page.locator("#origin").select_option("proxy")
    assert await window.errors() == [refused]
    await page.locator("#origin").select_option("")
    await page.locator("#text").fill(throttled[:20].upper())
    assert await window.errors() == [throttled]
    await page.locator("#text").fill("nothing has this")
    assert await window.errors() == []
    await expect(page.locator("#shown")).to_have_text("0 of 3 errors")

    await page.get_by_role("button", name="Show all").click()
    await page.get_by_role("button", name="Show the errors with Forbidden").click()
    await expect(page.locator(".error:visible")).to_have_count(1)
    # What comes meanwhile is filtered, too.
    again = await fail("Forbidden")
    await fail("NotFound")
    await expect(page.locator("#shown")).to_have_text("2 of 5 errors")
    assert await window.errors() == [again, forbidden]


async def test_a_pause_holds_still_and_misses_nothing(window: Window, fail: Callable[..., Awaitable[str]]) -> None:
    page = window.page
    first = await fail()
    await window.show()
    await page.get_by_role("button", name="Pause").click()
    await expect(page.locator("#live")).to_have_text("paused")
    second = await fail()
    await page.get_by_role("button", name="Resume").click()
    await expect(page.locator(".error")).to_have_count(2)
    assert await window.errors() == [second, first]
    assert re.search(r"/events\?after=[0-9a-f]{16}\.1$", window.requests[-1]), "all that it knew would come anew"


async def test_only_the_last_hundred_are_kept(window: Window, fail: Callable[..., Awaitable[str]]) -> None:
    page = window.page
    await window.show()
    targets = [await fail() for _ in range(104)]
    await expect(page.locator("#count-rows .number")).to_have_text("104")
    assert await window.errors() == targets[:-101:-1]


async def test_hostile_text_stays_text(
    browser: Browser,
    start_upstream: Callable[..., Awaitable[Upstream]],
    start_proxy: Callable[..., Awaitable[Proxied]],
    ask: Callable[..., Awaitable[Message]],
) -> None:
    target = "|" + "a1" * 60 + "."
    error = f'"code": "<img src=x onerror=window.hit=1>", "message": "{HOSTILE}", "target": "{target}"'
    body = f'{{"error": {{{error}}}}}'.encode()
    upstream = await start_upstream(
        b"HTTP/1.1 500 Oops\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body)
    )
    proxied = await start_proxy(upstream.url)
    await ask(proxied, "GET", "/api/machines")
    async with _windows(browser, proxied, viewport=_PHONE) as window:
        await window.show()
        await ask(proxied, "GET", "/api/machines", b"X-Request-Id: " + b"x" * 120)
        await expect(window.page.locator(".error")).to_have_count(2)
        for message in await window.page.locator(".message").all_inner_texts():
            assert message.startswith(HOSTILE[:200])
        assert "\\u202egnp.exe {{script}}" in HOSTILE
        assert await window.page.locator("main img, main script, main style, .error a").count() == 0
        assert await window.page.evaluate("window.hit") is None
        assert not await window.is_too_wide()
        whole = window.page.get_by_role("button", name="Whole message").first
        short = await window.page.locator(".message").first.evaluate("(e) => e.clientHeight")
        await whole.click()
        assert await window.page.locator(".message").first.evaluate("(e) => e.clientHeight") > short


async def test_on_a_phone_light_and_dark(
    browser: Browser, proxied: Proxied, fail: Callable[..., Awaitable[str]]
) -> None:
    async with _windows(browser, proxied, viewport=_PHONE, color_scheme="light") as window:
        await window.show()
        assert not await window.is_too_wide()
        for code in ("Forbidden", "InternalServerError", "TooManyRequests"):
            await fail(code)
        await fail("", *_ISOLATE, body=b'{"comment": "x", "isolationType": "full"}')
        await expect(window.page.locator(".error")).to_have_count(4)
        for summary in await window.page.locator("summary").all():
            await summary.click()
        assert not await window.is_too_wide()
        assert await window.page.evaluate(_FAINT) == {"faint": [], "isLight": True}
        await window.page.emulate_media(color_scheme="dark")
        assert await window.page.evaluate(_FAINT) == {"faint": [], "isLight": False}


_FAINT: Final = """() => {
  const channels = (colour) => colour.match(/[\\d.]+/g).map(Number);
  const light = (colour) => channels(colour).slice(0, 3)
    .map((c) => c / 255).map((c) => (c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4))
    .reduce((sum, c, i) => sum + c * [0.2126, 0.7152, 0.0722][i], 0);
  const behind = (element) => {
    for (let e = element; e; e = e.parentElement) {
      const colour = getComputedStyle(e).backgroundColor;
      if ((channels(colour)[3] ?? 1) > 0) return colour;
    }
    return "rgb(255, 255, 255)";
  };
  for (const animation of document.getAnimations()) animation.finish();
  const faint = new Set();
  const words = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (words.nextNode()) {
    const element = words.currentNode.parentElement;
    if (!words.currentNode.data.trim() || !element.checkVisibility()) continue;
    const [a, b] = [light(getComputedStyle(element).color), light(behind(element))].sort((x, y) => y - x);
    const contrast = (a + 0.05) / (b + 0.05);
    if (contrast < 4.5) faint.add(`${element.tagName} ${element.className} ${contrast.toFixed(2)}`);
  }
  return { faint: [...faint], isLight: light(getComputedStyle(document.body).backgroundColor) > 0.5 };
}"""
"""Lists what has less contrast than WCAG 2.2, 1.4.3, asks for, and tells light from dark."""


async def test_without_scripts_it_is_tables(
    browser: Browser, proxied: Proxied, fail: Callable[..., Awaitable[str]]
) -> None:
    target = await fail()
    async with _windows(browser, proxied, java_script_enabled=False, viewport=_PHONE) as window:
        await window.page.goto(f"{proxied.admin_url}/")
        await expect(window.page.get_by_role("table", name="Latest errors")).to_contain_text(target)
        await expect(window.page.get_by_role("button")).to_have_count(0)


async def test_it_comes_back_when_the_proxy_does(
    browser: Browser,
    simulator: Simulator,
    start_proxy: Callable[..., Awaitable[Proxied]],
    ask: Callable[..., Awaitable[Message]],
) -> None:
    async with AsyncExitStack() as life:
        first = await start_proxy(simulator.url, within=life)
        await ask(first, "GET", "/api/machines", b"X-Simulate: Forbidden")
        context = await browser.new_context()
        page = await context.new_page()
        await page.clock.install()
        await page.goto(f"{first.admin_url}/")
        await expect(page.locator("#live")).to_have_text("live")
        await life.aclose()
        await expect(page.locator("#live")).to_have_text("not connected, trying again")
        await expect(page.locator(".error")).to_have_count(1)
        second = await start_proxy(simulator.url, {"admin": first.admin_url.removeprefix("http://")})
        target = (await ask(second, "GET", "/api/alerts", b"X-Simulate: NotFound"))["X-Target-Id"]
        await page.clock.fast_forward(6000)
        await expect(page.locator("#live")).to_have_text("live")
        await expect(page.locator(".error .ids dd:first-of-type code")).to_have_text([target])
        await context.close()
