"""What came of a run: tables as Markdown, the targets with met or not, all raw figures as JSON, and a picture.

A figure is the median of its rounds. A ratio is the median of the ratios within each round, so that what slows a whole
round down falls out of it.
"""

from __future__ import annotations

import json
from collections import defaultdict
from dataclasses import asdict, dataclass
from html import escape
from statistics import median
from typing import TYPE_CHECKING, Final

from tests.bench.measure import DIRECT
from tests.bench.workloads import MIB, WORKLOADS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from tests.bench.measure import Cell, Plan, Results
    from tests.bench.proxies import Proxy

_BUSY_AT_LEAST: Final = 0.9
"""A proxy that used less of its core waited for others: it can do more requests per second than it was seen to do."""

_FLAT_WITHIN_BYTES: Final = 16 * MIB
_WORKLOAD_TITLES: Final = {workload.name: workload.title for workload in WORKLOADS}

_RATIOS: Final = (
    ("sidecar", "envoy"),
    ("sidecar", "nginx"),
    ("plain", "sidecar"),
    ("prism", "sidecar"),
    ("sidecar", "sidecar-off"),
)


@dataclass(frozen=True, slots=True)
class Target:
    """What a figure has to be; `figure` is None where it was not measured."""

    name: str
    bound: str
    figure: str | None
    is_met: bool

    def __str__(self) -> str:
        if self.figure is None:
            return f"not measured  {self.name}: {self.bound}"
        return f"{'met' if self.is_met else 'NOT MET':<13} {self.name}: {self.figure} ({self.bound})"


class Report:
    """Tells `results`; `facts` are of the machine."""

    def __init__(self, results: Results, proxies: Sequence[Proxy], plan: Plan, facts: Mapping[str, str | int]) -> None:
        self._results = results
        self._proxies = [proxy for proxy in proxies if proxy.program is not None]
        self._plan = plan
        self._facts = facts
        self._cells: dict[tuple[str, str], list[Cell]] = defaultdict(list)
        for cell in results.cells:
            self._cells[cell.workload, cell.proxy].append(cell)
        self._notes = [*results.notes, *self._busy_machine()]

    def _busy_machine(self) -> list[str]:
        """Return a note where others took a part of the cores: a busy proxy far slower than the client has its own."""
        slowest = max((cell.cpu_s / cell.requests for cell in self._results.cells if cell.cpu_s is not None), default=0)
        shares = [
            cell.cpu_s / cell.wall_s
            for cell in self._results.cells
            if cell.cpu_s is not None and cell.cpu_s / cell.requests > slowest / 2
        ]
        if not shares or median(shares) >= _BUSY_AT_LEAST:
            return []
        note = (
            f"the machine was busy: the slowest proxy got {median(shares):.0%} of its core, "
            "so that requests per second, latency and the rate of a download say little"
        )
        return [note]

    # Figures.

    def cpu_us(self, workload: str, proxy: str) -> float | None:
        """Return the CPU time of one request in microseconds; None where that was not measured."""
        return _median(self._cpu_us(workload, proxy).values())

    def _cpu_us(self, workload: str, proxy: str) -> dict[int, float]:
        return {
            cell.round: cell.cpu_s / cell.requests * 1e6
            for cell in self._cells[workload, proxy]
            if cell.cpu_s is not None
        }

    def _latency_us(self, proxy: str, percentile: str) -> dict[int, float]:
        """Return by round what the proxy adds to a percentile of the upstream's own."""
        direct = {one.round: getattr(one, percentile) for one in self._results.latencies if one.proxy == DIRECT}
        return {
            one.round: getattr(one, percentile) - direct[one.round]
            for one in self._results.latencies
            if one.proxy == proxy and one.round in direct
        }

    def _download_rate(self, proxy: str) -> dict[int, float]:
        """Return by round the megabytes (10^6 bytes) per second of the download."""
        return {one.round: one.size_bytes / one.wall_s / 1e6 for one in self._results.downloads if one.proxy == proxy}

    def _growth_bytes(self, proxy: str) -> float | None:
        return max((one.growth_bytes for one in self._results.downloads if one.proxy == proxy), default=None)

    def _loaded_bytes(self, proxy: str, kind: str) -> float | None:
        return max((getattr(cell, kind) for cell in self._results.cells if cell.proxy == proxy), default=None)

    def _idle(self, proxy: str, kind: str) -> float | None:
        return _median(getattr(one, kind) for one in self._results.starts if one.proxy == proxy)

    # Text.

    def text(self) -> str:
        """Return all tables, the ratios and the targets."""
        versions = ", ".join(self._version(proxy) for proxy in self._proxies)
        facts = ", ".join(f"{name} {value}" for name, value in self._facts.items())
        heading = (
            f"{facts}\n{versions}\n{self._plan.rounds} rounds of {self._plan.cell_s} s for each proxy and workload, "
            f"{self._plan.connections} connections"
        )
        parts = [
            heading,
            *(self._notes and ["\n".join(f"- {note}" for note in self._notes)]),
            *self._cell_tables(),
            *self._other_tables(),
            *self._ratio_table(),
            "Targets\n\n" + "\n".join(map(str, self.targets())),
        ]
        return "\n\n".join(parts)

    def _version(self, proxy: Proxy) -> str:
        loop = self._results.event_loops.get(proxy.name)
        return f"{proxy.title} {proxy.version}" + (f" ({loop})" if loop else "")

    def _table(self, title: str, rows: Sequence[tuple[str, Callable[[str], str]]], *, first: Sequence[str] = ()) -> str:
        """Return a table with a column for each proxy; a row has a name and what to write for a proxy's name."""
        names = [*first, *(proxy.name for proxy in self._proxies)]
        titles = [*first, *(proxy.title for proxy in self._proxies)]
        lines = [["", *titles], *([name, *map(cell, names)] for name, cell in rows)]
        return f"{title}\n\n{_markdown(lines)}"

    def _cell_tables(self) -> list[str]:
        workloads = [
            name for name in _WORKLOAD_TITLES if any(key[0] == name for key in self._cells if self._cells[key])
        ]
        if not workloads:
            return []

        def cpu(workload: str) -> Callable[[str], str]:
            return lambda proxy: _shown(self.cpu_us(workload, proxy), "{:,.0f} µs")

        def rate(workload: str) -> Callable[[str], str]:
            def cell(proxy: str) -> str:
                cells = self._cells[workload, proxy]
                busy = _median(one.cpu_s / one.wall_s for one in cells if one.cpu_s is not None)
                mark = "+" if busy is not None and busy < _BUSY_AT_LEAST else ""
                return _shown(_median(one.requests / one.wall_s for one in cells), "{:,.0f}" + mark)

            return cell

        return [
            self._table("CPU time per request", [(_WORKLOAD_TITLES[name], cpu(name)) for name in workloads]),
            self._table(
                "Requests per second (+: it was not always busy, so that it can do more)",
                [(_WORKLOAD_TITLES[name], rate(name)) for name in workloads],
                first=[DIRECT],
            ),
        ]

    def _other_tables(self) -> list[str]:
        results = self._results
        tables = []
        if results.latencies:
            direct = [one for one in results.latencies if one.proxy == DIRECT]
            own = " and ".join(f"{median(getattr(one, key) for one in direct):,.0f} µs" for key in ("p50_us", "p99_us"))
            tables.append(
                self._table(
                    f"Added latency at {self._plan.rate_per_s:.0f} requests a second (the upstream's own: {own})",
                    [("p50", self._latency_cell("p50_us")), ("p99", self._latency_cell("p99_us"))],
                )
            )
        memory: list[tuple[str, Callable[[str], str]]] = []
        for name, key in (("RSS", "rss_bytes"), ("PSS", "pss_bytes")):
            if results.starts:
                memory.append((f"{name}, idle", self._idle_cell(key)))
            if results.cells:
                memory.append((f"{name}, under load", self._loaded_cell(key)))
        if memory:
            tables.append(self._table("Memory", memory))
        if results.starts:
            ready = [("ready after", lambda proxy: _shown(self._idle(proxy, "ready_after_s"), "{:.2f} s"))]
            tables.append(self._table("Start-up", ready))
        if results.downloads:
            tables.append(
                self._table(
                    f"Download of {self._plan.download_bytes // MIB} MiB",
                    [
                        ("MB/s", lambda proxy: _shown(_median(self._download_rate(proxy).values()), "{:,.0f}")),
                        ("memory grew by", lambda proxy: "-" if proxy == DIRECT else _mib(self._growth_bytes(proxy))),
                    ],
                    first=[DIRECT],
                )
            )
        return tables

    def _latency_cell(self, percentile: str) -> Callable[[str], str]:
        return lambda proxy: _shown(_median(self._latency_us(proxy, percentile).values()), "{:,.0f} µs")

    def _idle_cell(self, kind: str) -> Callable[[str], str]:
        return lambda proxy: _mib(self._idle(proxy, kind))

    def _loaded_cell(self, kind: str) -> Callable[[str], str]:
        return lambda proxy: _mib(self._loaded_bytes(proxy, kind))

    def _ratio_table(self) -> list[str]:
        titles = {proxy.name: proxy.title for proxy in self._proxies}
        pairs = [(one, other) for one, other in _RATIOS if one in titles and other in titles]
        rows = []
        for workload, title in _WORKLOAD_TITLES.items():
            cells = [
                _spread(_ratios(self._cpu_us(workload, one), self._cpu_us(workload, other))) for one, other in pairs
            ]
            if any(cell != "-" for cell in cells):
                rows.append([title, *cells])
        if not rows:
            return []
        head = ["", *(f"{titles[one]} / {titles[other]}" for one, other in pairs)]
        return [f"Ratios of CPU time per request: median of the rounds (least to most)\n\n{_markdown([head, *rows])}"]

    # Targets.

    def targets(self) -> list[Target]:
        """Return what the sidecar has to reach, and whether it does."""
        cpu, rate = self._cpu_us, self._download_rate
        growth = self._growth_bytes("sidecar")
        is_flat = growth is not None and growth < _FLAT_WITHIN_BYTES
        download = _median(_ratios(rate("sidecar"), rate("nginx")))
        resident = self._loaded_bytes("sidecar", "rss_bytes"), self._loaded_bytes("envoy", "rss_bytes")
        p99 = (
            _median(self._latency_us("sidecar", "p99_us").values()),
            _median(self._latency_us("envoy", "p99_us").values()),
        )
        ready_s = self._idle("sidecar", "ready_after_s")
        return [
            _at_most("CPU of a checked POST, to Envoy's", 1.0, _ratios(cpu("post", "sidecar"), cpu("post", "envoy"))),
            _at_least(
                "CPU of a checked POST, the plain aiohttp proxy's to it",
                2.5,
                _ratios(cpu("post", "plain"), cpu("post", "sidecar")),
            ),
            _at_most(
                "CPU of a POST, check on to check off",
                1.05,
                _ratios(cpu("post", "sidecar"), cpu("post", "sidecar-off")),
            ),
            _at_most("CPU of a GET, to Envoy's", 0.9, _ratios(cpu("get", "sidecar"), cpu("get", "envoy"))),
            Target(
                "download, to nginx's rate, with flat memory",
                f"at least 0.6, growth below {_FLAT_WITHIN_BYTES // MIB} MiB",
                None if download is None else f"{download:.2f}, growth {_mib(growth)}",
                download is not None and download >= 0.6 and is_flat,
            ),
            _at_most("resident memory under load, to Envoy's", 0.9, _quotient(*resident)),
            _at_most("p99 of added latency, to Envoy's", 1.5, _quotient(*p99)),
            Target(
                "ready",
                "in under 1 s",
                None if ready_s is None else f"{ready_s:.2f} s",
                ready_s is not None and ready_s < 1,
            ),
            self._workers_target(),
        ]

    def _workers_target(self) -> Target:
        rates = {
            count: {one.round: one.requests / one.wall_s for one in self._results.workers if one.workers == count}
            for count in (1, 2)
        }
        ratio = _median(_ratios(rates[2], rates[1]))
        one_rate = _median(rates[1].values())
        cost_s = _median(one.cpu_s / one.requests for one in self._results.workers if one.workers == 1)
        if ratio is None or one_rate is None or cost_s is None:
            return Target("two workers, to one", "at least 1.7", None, is_met=False)
        possible = min(2.0, int(self._facts["cores"]) / cost_s / one_rate)
        got = _median(one.cpu_s / one.wall_s for one in self._results.workers if one.workers == 2)
        figure = (
            f"{ratio:.2f} of at most {possible:.2f} where client and upstream share the cores, of which "
            f"they got {got or 0:.2f} together"
        )
        return Target("two workers, to one", "at least 1.7", figure, ratio >= 1.7)

    # Files.

    def document(self) -> str:
        """Return every raw figure as JSON."""
        names = [proxy.name for proxy in self._proxies]
        medians = {
            workload: {name: figure for name in names if (figure := self.cpu_us(workload, name)) is not None}
            for workload in _WORKLOAD_TITLES
        }
        document = {
            "machine": dict(self._facts),
            "plan": asdict(self._plan),
            "proxies": {
                proxy.name: {
                    "title": proxy.title,
                    "version": proxy.version,
                    "event_loop": self._results.event_loops.get(proxy.name),
                }
                for proxy in self._proxies
            },
            "targets": [asdict(target) for target in self.targets()],
            "cpu_us": {workload: figures for workload, figures in medians.items() if figures},
            "raw": {
                name: figures for name, figures in asdict(self._results).items() if name not in {"event_loops", "notes"}
            },
            "notes": self._notes,
        }
        return json.dumps(_rounded(document), indent=1, ensure_ascii=False) + "\n"

    def picture(self) -> str | None:
        """Return the CPU time of a checked POST as bars, an SVG document; None where it was not measured."""
        figures = {proxy.name: self.cpu_us("post", proxy.name) for proxy in self._proxies}
        bars = sorted(
            (figure, proxy.title, proxy.name) for proxy in self._proxies if (figure := figures[proxy.name]) is not None
        )
        if not bars:
            return None
        return _svg(bars, figures.get("sidecar"))


def _median(figures: Iterable[float]) -> float | None:
    known = list(figures)
    return median(known) if known else None


def _ratios(one: Mapping[int, float], other: Mapping[int, float]) -> list[float]:
    """Return the ratio within each round that has both."""
    return [figure / other[number] for number, figure in one.items() if other.get(number)]


def _quotient(one: float | None, other: float | None) -> list[float]:
    """Return the ratio of two figures; none where one is lost in the noise, as a latency below nothing is."""
    return [one / other] if one is not None and other is not None and one > 0 < other else []


def _at_most(name: str, bound: float, ratios: Sequence[float]) -> Target:
    ratio = _median(ratios)
    return Target(
        name, f"at most {bound}", None if ratio is None else f"{ratio:.2f}", ratio is not None and ratio <= bound
    )


def _at_least(name: str, bound: float, ratios: Sequence[float]) -> Target:
    ratio = _median(ratios)
    return Target(
        name, f"at least {bound}", None if ratio is None else f"{ratio:.2f}", ratio is not None and ratio >= bound
    )


def _shown(figure: float | None, form: str) -> str:
    return "-" if figure is None else form.format(figure)


def _mib(figure: float | None) -> str:
    return _shown(None if figure is None else figure / MIB, "{:.1f} MiB")


def _spread(ratios: Sequence[float]) -> str:
    return f"{median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})" if ratios else "-"


def _rounded(value: object) -> object:
    """Return a document with floats of six digits: no clock here is better than that."""
    match value:
        case float():
            return float(f"{value:.6g}")
        case dict():
            return {name: _rounded(inner) for name, inner in value.items()}
        case list() | tuple():
            return [_rounded(inner) for inner in value]
    return value


def _markdown(lines: Sequence[Sequence[str]]) -> str:
    """Return a table whose first line is its head, figures to the right."""
    widths = [max(3, *(len(line[column]) for line in lines)) for column in range(len(lines[0]))]

    def row(cells: Sequence[str]) -> str:
        first, *others = zip(cells, widths, strict=True)
        texts = [first[0].ljust(first[1]), *(cell.rjust(width) for cell, width in others)]
        return f"| {' | '.join(texts)} |"

    rule = ["-" * widths[0], *("-" * (width - 1) + ":" for width in widths[1:])]
    return "\n".join([row(lines[0]), row(rule), *map(row, lines[1:])])


# The picture.

_WIDTH: Final = 720
_BAR: Final = 22
_STEP: Final = 34
_LEFT: Final = 160
_TOP: Final = 44
_FIGURES: Final = 200

_STYLE: Final = """
text { font: 13px system-ui, sans-serif; fill: #1f2328; }
.title { font-weight: 600; }
.bar { fill: #8c959f; }
.own { fill: #0969da; }
@media (prefers-color-scheme: dark) {
  text { fill: #e6edf3; }
  .bar { fill: #6e7681; }
  .own { fill: #4493f8; }
}
"""


def _svg(bars: Sequence[tuple[float, str, str]], own: float | None) -> str:
    """Return horizontal bars, each with its figure and its ratio to the sidecar's."""
    title = "CPU time per checked POST: less is better"
    height = _TOP + _STEP * len(bars) + 6
    # A bar that is far longer than all others would leave nothing of those: it is cut, and shown to be.
    longest = max(figure for figure, *_ in bars)
    shown_at_most = min(longest, 1.25 * sorted(figure for figure, *_ in bars)[-2]) if len(bars) > 1 else longest
    scale = (_WIDTH - _LEFT - _FIGURES) / shown_at_most
    described = "; ".join(f"{name} {figure:.0f} µs" for figure, name, _ in bars)
    size = f'width="{_WIDTH}" height="{height}" viewBox="0 0 {_WIDTH} {height}"'
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" {size} role="img" aria-labelledby="title desc">',
        f'<title id="title">{escape(title)}</title>',
        f'<desc id="desc">{escape(described)}</desc>',
        f"<style>{_STYLE}</style>",
        f'<text class="title" x="0" y="20">{escape(title)}</text>',
    ]
    for number, (figure, name, key) in enumerate(bars):
        y = _TOP + number * _STEP
        is_cut = figure > shown_at_most
        width = max(1.0, min(figure, shown_at_most) * scale)
        ratio = f" ({figure / own:.2f} of ours)" if own and key != "sidecar" else ""
        text_y = y + _BAR - 6
        kind = "own" if key.startswith("sidecar") else "bar"
        lines.append(f'<text x="{_LEFT - 8}" y="{text_y}" text-anchor="end">{escape(name)}</text>')
        if is_cut:
            edge = f"l6 {_BAR / 4} l-6 {_BAR / 4} l6 {_BAR / 4} l-6 {_BAR / 4}"
            lines.append(f'<path class="{kind}" d="M{_LEFT} {y} h{width:.1f} {edge} h-{width:.1f} z"/>')
        else:
            lines.append(f'<rect class="{kind}" x="{_LEFT}" y="{y}" width="{width:.1f}" height="{_BAR}" rx="2"/>')
        note = f"{figure:,.0f} µs{ratio}" + (", cut" if is_cut else "")
        lines.append(f'<text x="{_LEFT + width + 12:.1f}" y="{text_y}">{escape(note)}</text>')
    return "\n".join([*lines, "</svg>", ""])
