"""Log fields as a person reads them: lists and objects as short texts instead of Python's own notation."""

from __future__ import annotations

from proxy.core.text import printable


def readable(value: object) -> object:
    """Return `value` for a line of the console: texts harmless to a terminal, lists and objects as one text each.

    A place in a body is told as the fix that it needs, such as `/comment: comment -> Comment`.
    """
    match value:
        case str():
            return printable(value)
        case {"pointer": pointer, "got": got, "expected": str(expected)}:
            return printable(f"{pointer}: {got} -> {expected}")
        case dict():
            return "; ".join(f"{printable(str(name))}: {readable(member)}" for name, member in value.items())
        case list() | tuple():
            return ", ".join(str(readable(member)) for member in value)
    return value
