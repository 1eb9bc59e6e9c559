"""Files that are read for long use: what each looked like when it was read, and whether it looks otherwise now."""

from __future__ import annotations

from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

Look: TypeAlias = tuple[int, ...] | None
"""What sets one version of a file apart from the next; None where there is none to be seen."""

_record: ContextVar[dict[Path, Look] | None] = ContextVar("record", default=None)


@contextmanager
def recorded() -> Iterator[Mapping[Path, Look]]:
    """Yield a mapping that fills with the files that are read within the block, and their looks."""
    looks: dict[Path, Look] = {}
    token = _record.set(looks)
    try:
        yield looks
    finally:
        _record.reset(token)


@contextmanager
def unrecorded() -> Iterator[None]:
    """Leave the files that are read within the block out of the record."""
    token = _record.set(None)
    try:
        yield
    finally:
        _record.reset(token)


def about_to_read(path: Path) -> None:
    """Enter `path` in the record, if one is kept.

    Called before the file is opened: one that is replaced in between looks changed later, and is read once more.
    """
    looks = _record.get()
    if looks is not None:
        looks.setdefault(path, look_of(path))


def look_of(path: Path) -> Look:
    """Return what the file behind all links of `path` looks like.

    Its inode changes with a rename into place and with a link that is bent to another file, its status change time
    with everything else: content of the same size, a modification time that is set back, permissions.
    """
    try:
        status = path.stat()
    except (OSError, ValueError):
        return None
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns


def changed(looks: Mapping[Path, Look]) -> dict[Path, Look]:
    """Return those of `looks` that are otherwise now, as they are now."""
    now = {path: look_of(path) for path in looks}
    return {path: look for path, look in now.items() if look != looks[path]}
