"""Looks of files: whatever way a file is replaced, it is noticed."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from proxy.files import about_to_read, changed, recorded, unrecorded

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


def rewritten(path: Path) -> None:
    """Write something else of the same size, with the same modification time."""
    before = path.stat()
    path.write_text("b: 2", "utf-8")
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def renamed_into_place(path: Path) -> None:
    new = path.with_suffix(".new")
    new.write_text("b: 2", "utf-8")
    new.rename(path)


def removed(path: Path) -> None:
    path.unlink()


@pytest.mark.parametrize("change", [rewritten, renamed_into_place, removed])
def test_a_change_is_noticed(tmp_path: Path, change: Callable[[Path], None]) -> None:
    path = tmp_path / "a.yaml"
    path.write_text("a: 1", "utf-8")
    with recorded() as looks:
        about_to_read(path)
    assert not changed(looks)

    change(path)

    assert [*changed(looks)] == [path]


def test_a_link_that_is_bent_as_kubernetes_does_is_noticed(tmp_path: Path) -> None:
    for version in ("1", "2"):
        (tmp_path / version).mkdir()
        (tmp_path / version / "a.yaml").write_text("a: 1", "utf-8")
    (tmp_path / "..data").symlink_to("1")
    path = tmp_path / "a.yaml"
    path.symlink_to("..data/a.yaml")
    with recorded() as looks:
        about_to_read(path)

    (tmp_path / "..data_tmp").symlink_to("2")
    (tmp_path / "..data_tmp").rename(tmp_path / "..data")

    assert [*changed(looks)] == [path]


def test_a_file_that_appears_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    with recorded() as looks:
        about_to_read(path)
    assert looks == {path: None}

    path.touch()

    assert [*changed(looks)] == [path]


def test_the_first_look_counts_and_what_is_not_recorded_is_left_out(tmp_path: Path) -> None:
    path, other = tmp_path / "a.yaml", tmp_path / "b.yaml"
    with recorded() as looks:
        about_to_read(path)
        path.touch()
        about_to_read(path)
        with unrecorded():
            about_to_read(other)
    about_to_read(other)

    assert looks == {path: None}
