"""Runs the Dockerfile's instructions below a folder that stands for the image's root, and what they make."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import shlex
import shutil
import socket
import subprocess
import sys
from dataclasses import dataclass, field
from fnmatch import fnmatch
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest

from tests.documented import keep

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping, Sequence

ROOT: Final = Path(__file__).parent.parent
DOCKER: Final = ROOT / "deploy" / "docker"

STARTED_WITHIN_S: Final = 30.0
ENDED_WITHIN_S: Final = 30.0


@dataclass(frozen=True, slots=True)
class Instruction:
    """One instruction of a Dockerfile, its lines joined."""

    name: str
    text: str

    def words(self) -> list[str]:
        """Return the exec form as a list; fails on the shell form."""
        words: list[str] = json.loads(self.text)
        return words


def instructions() -> list[Instruction]:
    lines = (DOCKER / "Dockerfile").read_text(encoding="utf-8").splitlines()
    joined = "\n".join(line for line in lines if not line.startswith("#")).replace("\\\n", "")
    found = [line.split(maxsplit=1) for line in joined.splitlines() if line.strip()]
    return [Instruction(name, text) for name, text in found]


def only(name: str) -> str:
    """Return the text of the one instruction of this name."""
    (text,) = [step.text for step in instructions() if step.name == name]
    return text


def is_in_context(path: str) -> bool:
    """Whether .dockerignore lets `path` reach the builder; the last pattern that matches it or a parent decides."""
    parts = path.split("/")
    ways = ["/".join(parts[: length + 1]) for length in range(len(parts))]
    is_kept = True
    for line in (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines():
        pattern = line.removeprefix("!")
        if not line or line.startswith("#"):
            continue
        if pattern.startswith("**/"):
            matches = any(fnmatch(part, pattern[3:]) for part in parts)
        else:
            matches = any(fnmatch(way, pattern) and way.count("/") == pattern.count("/") for way in ways)
        if matches:
            is_kept = line.startswith("!")
    return is_kept


def copied(source: Path, target: Path, *, is_kept: Callable[[Path], bool] = lambda _path: True) -> None:
    """Copy as COPY does: the content of a folder into `target`, a file to it, or into it where it is a folder."""
    if source.is_dir():
        for path in sorted(source.rglob("*")):
            if not path.is_dir() and is_kept(path):
                copied(path, target / path.relative_to(source))
        return
    if target.is_dir():
        target /= source.name
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy2(source, target, follow_symlinks=False)


@dataclass(slots=True)
class Image:
    """An image as the Dockerfile makes it, its root being the folder `root`."""

    root: Path
    variables: dict[str, str] = field(default_factory=dict)
    folder: str = "/"

    def at(self, path: str) -> Path:
        return self.root / path.lstrip("/")

    def placed(self, text: str) -> str:
        """Return `text` with the image's own absolute paths led below `root`."""
        return re.sub(r"(?<![\w./-])/(?=(?:opt|src|etc/defender-sidecar)\b)", f"{self.root}/", text)

    @property
    def environment(self) -> dict[str, str]:
        return {name: self.placed(value) for name, value in self.variables.items()}

    def process(self, command: Sequence[str], variables: Mapping[str, str] | None = None) -> list[str]:
        """Return what starts `command` in the environment of a container, where no file can be written."""
        environment = self.environment | dict(variables or {})
        assignments = [f"{name}={value}" for name, value in environment.items()]
        return [*unwritable(), "env", "-i", *assignments, *map(self.placed, command)]

    def output(self, command: Sequence[str]) -> str:
        done = subprocess.run(self.process(command), capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def files(self) -> dict[str, int]:
        return {str(path): path.lstat().st_mtime_ns for path in self.root.rglob("*")}


READ_ONLY: Final = """
mount --make-rprivate / || exit
while read -r _ point _; do mount -o remount,bind,ro "$point" 2>/dev/null; done </proc/mounts
exec "$@"
"""
"""Makes every file system read-only, for the program that follows and nobody else."""


def unwritable() -> list[str]:
    """Return what to put before a command so that it cannot write: read-only mounts for root, else no file's growth."""
    no_growth = ["sh", "-c", 'ulimit -f 0; exec "$@"', "sh"]
    separate = ["unshare", "--mount", "sh", "-c", READ_ONLY, "sh"]
    if shutil.which("unshare") and os.geteuid() == 0:
        probe = [*separate, "sh", "-c", "! : >>LICENSE"]
        if subprocess.run(probe, capture_output=True, check=False, cwd=ROOT).returncode == 0:
            return [*separate, *no_growth]
    return no_growth


class _Builder:
    """Carries out one instruction after the other; fails on any that it does not know."""

    def __init__(self, folder: Path, arguments: Mapping[str, str]) -> None:
        self.given = arguments
        self.arguments: dict[str, str] = {}
        base = folder / "base"
        base.mkdir()
        (base / "python").symlink_to(Path(sys.base_prefix) / "bin" / f"python3.{sys.version_info.minor}")
        self.path = f"{base}:{os.defpath}"
        self.folder = folder
        self.earlier: Path | None = None
        self.image = Image(folder / "image")

    def carry_out(self, step: Instruction) -> None:
        match step.name:
            case "FROM":
                self._begin(step.text)
            case "WORKDIR":
                self.image.folder = step.text
                self.image.at(step.text).mkdir(parents=True)
            case "ENV":
                for item in shlex.split(step.text):
                    name, _, value = item.partition("=")
                    self.image.variables[name] = value.replace("${PATH}", self.image.variables["PATH"])
            case "COPY":
                self._copy(step.text.split())
            case "RUN":
                self._run(step.text)
            case "ARG":
                name, _, default = step.text.partition("=")
                self.arguments[name] = self.given.get(name, default)
            case "LABEL" | "USER" | "EXPOSE" | "STOPSIGNAL" | "HEALTHCHECK" | "ENTRYPOINT" | "CMD":
                pass
            case _:
                pytest.fail(f"{step.name}: not known here; teach it to this builder")

    def _begin(self, text: str) -> None:
        # Paths within stay the same from stage to stage, and nothing is left of a stage that was not copied.
        assert text.split(maxsplit=1)[0] == "${BASE}"
        if self.image.root.exists():
            self.earlier = self.image.root.rename(self.folder / "build")
        self.arguments = {}
        self.image = Image(self.folder / "image", {"PATH": self.path})
        self.image.root.mkdir()

    def _copy(self, words: list[str]) -> None:
        *sources, target = words
        place = self.image.at(target) if target.startswith("/") else self.image.at(self.image.folder) / target
        if sources[0] == "--from=build":
            assert self.earlier is not None
            for source in sources[1:]:
                copied(self.earlier / source.lstrip("/"), place)
            return
        for source in sources:
            assert is_in_context(source), f"{source} is kept from the builder"
            copied(ROOT / source, place, is_kept=lambda path: is_in_context(path.relative_to(ROOT).as_posix()))

    def _run(self, text: str) -> None:
        given = {
            name: value
            for name, value in os.environ.items()
            if name in {"HOME", "SSL_CERT_FILE", "HTTPS_PROXY", "https_proxy"} or name.startswith("PIP_")
        }
        done = subprocess.run(
            ["/bin/sh", "-c", self.image.placed(text)],
            cwd=self.image.at(self.image.folder),
            env=given | self.arguments | self.image.environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, f"{text}\n{done.stdout}{done.stderr}"


def build(folder: Path, **arguments: str) -> Image:
    """Return the image that the Dockerfile makes of build `arguments`, below `folder`."""
    builder = _Builder(folder, arguments)
    for step in instructions():
        builder.carry_out(step)
    return builder.image


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as lent:
        return int(lent.getsockname()[1])


@dataclass(slots=True)
class Started:
    """A running process of the image, and the lines it has written so far."""

    process: asyncio.subprocess.Process
    lines: list[str] = field(default_factory=list)

    async def line(self, holding: str) -> str:
        """Return the next line that holds a text."""
        assert self.process.stdout is not None
        async with asyncio.timeout(STARTED_WITHIN_S):
            while line := (await self.process.stdout.readline()).decode():
                self.lines.append(line)
                keep(line)
                if holding in line:
                    return line
        raise AssertionError("".join(self.lines))

    async def ended(self) -> int:
        """Return the exit status."""
        assert self.process.stdout is not None
        async with asyncio.timeout(ENDED_WITHIN_S):
            rest = (await self.process.stdout.read()).decode().splitlines()
            for line in rest:
                keep(line)
            self.lines += rest
            return await self.process.wait()


@contextlib.asynccontextmanager
async def started(command: Sequence[str]) -> AsyncIterator[Started]:
    process = await asyncio.create_subprocess_exec(
        *command, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    try:
        yield Started(process)
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()
