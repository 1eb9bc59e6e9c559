"""Draw calls of the demonstration for the README: `python -m tests.picture`.

What the demonstration prints on a terminal becomes one SVG that is readable on light and dark and needs nothing else,
neither a font nor a style sheet. Which calls, is by their numbers in the table.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final
from xml.sax.saxutils import escape

from rich.console import Console
from rich.text import Text

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

ROOT: Final = Path(__file__).parents[1]
FILE: Final = ROOT / "tests" / "demo.svg"
CALLS: Final = (3, 7, 14)
"""A refusal, a correction, and an error made whole."""

_COLUMNS: Final = 88
_COMMAND: Final = "bash .ci/demo"
_FONT_PX: Final = 13.0
# What nearly every monospaced font has; `textLength` keeps the columns where one does not.
_ADVANCE_PX: Final = 7.8
_LINE_PX: Final = 18.0
_MARGIN_PX: Final = 16.0
_BAR_PX: Final = 36.0
# Between two records: below the one, above the other, with a rule between them.
_GAP_PX: Final = 20.0

# The demonstration's colours, by their numbers on a terminal.
_COLOURS: Final = {1: "red", 2: "green", 5: "magenta", 6: "cyan"}
_STYLE: Final = """
text { font: 13px ui-monospace, monospace; fill: #1f2328; }
.frame { fill: #ffffff; stroke: #d1d9e0; }
.rule { stroke: #d1d9e0; }
.bold { font-weight: 600; }
.dim { fill: #59636e; }
.red { fill: #cf222e; }
.green { fill: #1a7f37; }
.cyan { fill: #0a6b83; }
.magenta { fill: #8250df; }
@media (prefers-color-scheme: dark) {
  text { fill: #e6edf3; }
  .frame { fill: #0d1117; stroke: #3d444d; }
  .rule { stroke: #3d444d; }
  .dim { fill: #9198a1; }
  .red { fill: #ff7b72; }
  .green { fill: #3fb950; }
  .cyan { fill: #56d4dd; }
  .magenta { fill: #d2a8ff; }
}
"""


def demonstration(*, coloured: bool = False) -> str:
    """Return what the demonstration prints, 88 columns wide."""
    wanted = {"FORCE_COLOR": "1"} if coloured else {}
    return subprocess.run(
        [sys.executable, "-m", "proxy", "demo", "--once"],
        cwd=ROOT,
        env={"PATH": os.defpath, "COLUMNS": str(_COLUMNS), "PYTHONUTF8": "1", **wanted},
        capture_output=True,
        encoding="utf-8",
        check=True,
    ).stdout


def drawn(printed: str, calls: Sequence[int] = CALLS) -> str:
    """Return the SVG of some `calls` of a coloured demonstration."""
    records = {number: lines for number, lines in _records(printed) if number in calls}
    chosen = [records[number] for number in calls]
    width = 2 * _MARGIN_PX + (_COLUMNS - 2) * _ADVANCE_PX
    height = _BAR_PX + sum(len(lines) * _LINE_PX + _GAP_PX for lines in chosen)
    size = f'width="{width:g}" height="{height:g}" viewBox="0 0 {width:g} {height:g}"'
    titles = "; ".join(escape(lines[0].plain[8:-1].strip()) for lines in chosen)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" {size} role="img" aria-labelledby="title desc">',
        f'<title id="title">Some calls of the demonstration, {_COMMAND}</title>',
        f'<desc id="desc">{titles}</desc>',
        f"<style>{_STYLE}</style>",
        f'<rect class="frame" x="0.5" y="0.5" width="{width - 1:g}" height="{height - 1:g}" rx="8"/>',
        f'<text class="dim" x="{_MARGIN_PX:g}" y="23">$ {_COMMAND}</text>',
    ]
    top = _BAR_PX
    for lines in chosen:
        parts.append(f'<line class="rule" x1="1" x2="{width - 1:g}" y1="{top:g}" y2="{top:g}"/>')
        for row, line in enumerate(lines):
            y = top + _GAP_PX / 2 + row * _LINE_PX + _FONT_PX
            parts.append(f'<text y="{y:g}">{"".join(_spans(line))}</text>')
        top += len(lines) * _LINE_PX + _GAP_PX
    return "\n".join([*parts, "</svg>", ""])


def _records(printed: str) -> Iterator[tuple[int, list[Text]]]:
    """Yield the calls in the table, each with its number and its lines."""
    lines: list[Text] = []
    for line in map(Text.from_ansi, printed.splitlines()):
        if line.plain.startswith("│"):
            lines.append(line)
        elif lines:
            yield int(lines[0].plain[1:4]), lines
            lines = []


def _spans(line: Text) -> Iterator[str]:
    """Yield what one line of the table is made of, without its borders, each word or phrase at its column."""
    column = 0
    for text, style, _ in line.render(Console(color_system="standard", force_terminal=True)):
        for phrase in re.finditer(r"[^\s│]+(?: [^\s│]+)*", text):
            classes = [name for name in ("bold", "dim") if style and getattr(style, name)]
            if style and style.color and style.color.number is not None:
                classes.append(_COLOURS[style.color.number])
            named = f' class="{" ".join(classes)}"' if classes else ""
            x = _MARGIN_PX + (column + phrase.start() - 2) * _ADVANCE_PX
            length = len(phrase[0]) * _ADVANCE_PX
            yield (
                f'<tspan{named} x="{x:g}" textLength="{length:g}" lengthAdjust="spacingAndGlyphs">'
                f"{escape(phrase[0])}</tspan>"
            )
        column += len(text)


if __name__ == "__main__":
    FILE.write_text(drawn(demonstration(coloured=True)), "utf-8")
