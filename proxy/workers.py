"""Several processes on one port: one that leads and carries nothing, and workers that carry requests.

The kernel spreads connections over the workers (socket(7), SO_REUSEPORT). The leader holds the port, starts a worker
anew when one ends, takes the signals, and answers for all at the admin listener. Between the leader and each worker is
a socket on which both write JSON, a document a line; its end tells a worker that the leader is gone.
"""

from __future__ import annotations

import asyncio
import fcntl
import json
import os
import shutil
import signal
import socket
import sys
import tempfile
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any, Final

from prometheus_client import CollectorRegistry, values
from prometheus_client.multiprocess import MultiProcessCollector, mark_process_dead
from prometheus_client.registry import Collector

from proxy.admin import Phase, Readiness, admin_application, administering
from proxy.core.recent import Note, Recent
from proxy.errors import UnusableInputError
from proxy.listener import ListenError, listen_problem
from proxy.logs import logging_to
from proxy.loop import kind_of
from proxy.reload import Reloader
from proxy.server import (
    StartError,
    carrying,
    egress_proxy_of,
    follow,
    keep_pauses_short,
    require_parser,
    require_tracing,
    url_of,
)
from proxy.status import Status
from proxy.telemetry import Telemetry

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable, Iterator, Mapping, Sequence
    from typing import TextIO

    from prometheus_client.metrics_core import Metric

    from proxy.configuration import Configuration
    from proxy.logs import Log
    from proxy.reload import Source
    from proxy.server import Plant

_FOLDER_VARIABLE: Final = "PROMETHEUS_MULTIPROC_DIR"
_LOCK_NAME: Final = "log.lock"

_LINE_BYTES_AT_MOST: Final = 2**20
# What a worker holds for a leader that does not read; notes beyond that are left out.
_NOTES_BYTES_AT_MOST: Final = 2**20
_LOG_BYTES_HELD_AT_MOST: Final = 64 * 1024
_PUBLISHED_EACH_S: Final = 0.25
_LOOKS_FOR_LEADER: Final = 100
_LOOKED_EACH_S: Final = 0.01

_FAILED_STARTS_AT_MOST: Final = 3
_FIRST_PAUSE_S: Final = 0.1
_LONGEST_PAUSE_S: Final = 30.0
# A worker that has lived for so long has not died of its start.
_PROVEN_AFTER_S: Final = 60.0
_PROBLEMS_AT_MOST: Final = 100
_RELOADED_WITHIN_S: Final = 30.0
# Beyond what the settings allow for a drain.
_LAST_MOMENT_S: Final = 5.0

# What is true of the proxy as a whole, and told by the leader alone.
_OF_LEADER: Final = frozenset(
    f"defender_proxy_{name}" for name in ("ready", "build_info", "catalog_operations", "config_reloads")
)


@dataclass(frozen=True, slots=True)
class Place:
    """What a worker is handed by the leader: descriptors of the socket between them and of those to listen on."""

    control: int
    plugs: tuple[int, ...]
    folder: str

    def argument(self) -> str:
        """Return this for the command line."""
        return json.dumps(asdict(self))

    @classmethod
    def of_argument(cls, argument: str) -> Place:
        """Return what `argument` holds."""
        document = json.loads(argument)
        return cls(int(document["control"]), tuple(map(int, document["plugs"])), str(document["folder"]))


class _SharedStream:
    """Standard output as several processes share it: under a lock, and whole lines at a time.

    A write to a pipe is in one piece up to 4 KiB alone (pipe(7), PIPE_BUF), and a line may be longer.
    """

    def __init__(self, stream: TextIO, folder: Path) -> None:
        self._stream = stream
        self._held: list[str] = []
        self._held_bytes = 0
        # A lock of flock(2) belongs to an opening of the file, and goes with the process.
        self._lock = os.open(folder / _LOCK_NAME, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)

    def isatty(self) -> bool:
        """Whether a person reads it."""
        return self._stream.isatty()

    def write(self, line: str) -> int:
        """Keep a whole `line` for the next flush."""
        self._held.append(line)
        self._held_bytes += len(line)
        if self._held_bytes > _LOG_BYTES_HELD_AT_MOST:
            self.flush()
        return len(line)

    def flush(self) -> None:
        """Write what is kept."""
        lines, self._held, self._held_bytes = "".join(self._held), [], 0
        fcntl.flock(self._lock, fcntl.LOCK_EX)
        try:
            self._stream.write(lines)
            self._stream.flush()
        finally:
            fcntl.flock(self._lock, fcntl.LOCK_UN)


class _Messages:
    """One end of the socket between leader and worker."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    @classmethod
    async def on(cls, plug: socket.socket) -> _Messages:
        plug.setblocking(False)  # noqa: FBT003 - the socket's signature
        return cls(*await asyncio.open_connection(sock=plug, limit=_LINE_BYTES_AT_MOST))

    def say(self, what: str, **more: object) -> None:
        """Tell the other side, if it is still there."""
        if not self._writer.is_closing():
            self._writer.write(json.dumps({"what": what, **more}).encode() + b"\n")

    def say_if_room(self, what: str, **more: object) -> None:
        """Tell the other side unless it is behind with reading."""
        if self._writer.transport.get_write_buffer_size() < _NOTES_BYTES_AT_MOST:
            self.say(what, **more)

    async def next(self) -> dict[str, Any] | None:
        """Return what the other side says next; None once it is gone."""
        try:
            line = await self._reader.readline()
        except (ConnectionError, ValueError):
            return None
        if not line.endswith(b"\n"):
            return None
        document: dict[str, Any] = json.loads(line)
        return document

    def close(self) -> None:
        self._writer.close()


# The worker.


class _Relay(Recent):
    """Tells the leader, who shows it, what is to be remembered."""

    def __init__(self, messages: _Messages) -> None:
        super().__init__()
        self._messages = messages

    def add(self, note: Note) -> None:
        """Pass `note` on."""
        self._messages.say_if_room("note", note=asdict(note))


class _Published:
    """Numbers that are kept in memory, and written now and then to the file that the leader reads.

    prometheus_client's own are written each time, ten times and 50 µs for each request.
    """

    def __init__(self) -> None:
        self._changed: list[_Number] = []
        self._in_file = values.MultiProcessValue()  # type: ignore[no-untyped-call] # it has no types

    def number(self, *args: Any, **kwargs: Any) -> _Number:
        """Return a new number; this is what `prometheus_client.values.ValueClass` makes."""
        return _Number(self._in_file(*args, **kwargs), self._changed)

    def publish(self) -> None:
        """Write what has changed."""
        for _ in range(len(self._changed)):
            self._changed.pop().publish()


class _Number:
    """A number as prometheus_client wants it; threads may count at the same time."""

    _multiprocess = True

    def __init__(self, in_file: Any, changed: list[_Number]) -> None:
        self._in_file = in_file
        # A former process of the same ID may have left one.
        self._value: float = in_file.get()
        self._changed = changed
        self._is_changed = False
        self._lock = Lock()

    def inc(self, amount: float) -> None:
        """Add `amount`."""
        with self._lock:
            self._value += amount
            if not self._is_changed:
                self._is_changed = True
                self._changed.append(self)

    def set(self, value: float, timestamp: float | None = None) -> None:  # noqa: ARG002 - the library's signature
        """Be `value` from now on."""
        with self._lock:
            self._value = value
            if not self._is_changed:
                self._is_changed = True
                self._changed.append(self)

    def publish(self) -> None:
        """Write it to the file."""
        with self._lock:
            self._is_changed = False
            value = self._value
        self._in_file.set(value)

    def get(self) -> float:
        """Return it."""
        return self._value

    def set_exemplar(self, _exemplar: object) -> None:
        """Do without: the files hold none."""

    def get_exemplar(self) -> None:
        """Return None, as above."""


async def work(configuration: Configuration, source: Source, place: Place, stream: TextIO) -> None:
    """Carry requests until the leader asks for the end, or is gone."""
    require_parser()
    leader = os.getppid()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        # Those who signal a whole group mean the leader, which passes on what is to be done.
        loop.add_signal_handler(number, lambda: None)
    messages = await _Messages.on(socket.socket(fileno=place.control))
    folder, settings = Path(place.folder), configuration.settings
    published = _Published()
    values.ValueClass = published.number  # the library's own place for another kind of number
    telemetry = Telemetry(CollectorRegistry(), configuration.catalog, configuration.codes)
    telemetry.recent = _Relay(messages)
    plugs = [socket.socket(fileno=number) for number in place.plugs]
    with logging_to(
        _SharedStream(stream, folder),  # type: ignore[arg-type] # as much of a stream as a log asks for
        level=settings.log.level,
        style=settings.log.format,
        repeats=settings.log.repeats_per_minute,
        on_event=telemetry.count_log_line,
        on_dropped=telemetry.count_dropped_line,
        on_left_out=telemetry.count_suppressed_line,
    ) as log:
        telemetry.log_to(log, requests=settings.log.requests)
        async with carrying(configuration, telemetry, log, plugs) as plant:
            keep_pauses_short()
            messages.say("serving")
            publishing = asyncio.create_task(_publish(published, plant, telemetry))
            is_asked = await _obey(messages, plant, source)
            if is_asked:
                # Where the leader is gone, the next one needs the port.
                await asyncio.sleep(plant.listener.settings.drain.delay_s)
        publishing.cancel()
    published.publish()
    messages.close()
    if not is_asked and await _is_gone(leader):
        # The folder is nobody's any more.
        shutil.rmtree(folder, ignore_errors=True)


async def _is_gone(leader: int) -> bool:
    """Whether the process `leader` has ended; what it held open is closed a moment before that."""
    for _ in range(_LOOKS_FOR_LEADER):
        if os.getppid() != leader:
            return True
        await asyncio.sleep(_LOOKED_EACH_S)
    return False


async def _obey(messages: _Messages, plant: Plant, source: Source) -> bool:
    """Do what the leader says until it asks for the end; return whether it did, and is not just gone."""
    while (message := await messages.next()) is not None:
        match message["what"]:
            case "drain":
                return True
            case "reload":
                try:
                    await plant.take_over(await asyncio.to_thread(source.read))
                except (UnusableInputError, OSError) as error:
                    messages.say("reloaded", problems=str(error).splitlines()[:_PROBLEMS_AT_MOST])
                else:
                    messages.say("reloaded", problems=[])
    return False


async def _publish(published: _Published, plant: Plant, telemetry: Telemetry) -> None:
    """Let the leader know of all numbers, now and then."""
    gauge = telemetry.connections_gauge()
    while True:
        telemetry.in_flight.set(plant.switch.in_flight())
        for state, count in plant.switch.connections().items():
            gauge.labels(state).set(count)
        published.publish()
        await asyncio.sleep(_PUBLISHED_EACH_S)


# The leader.


class Merged(Collector):
    """What the leader counts and what the workers' files in `folder` hold, those that have ended included."""

    def __init__(self, own: CollectorRegistry, folder: Path) -> None:
        self._own = own
        self._workers = MultiProcessCollector(None, path=str(folder))  # type: ignore[no-untyped-call] # it has no types

    def collect(self) -> Iterable[Metric]:
        """Yield each family once, series of the same labels added up."""
        families = {family.name: family for family in self._own.collect()}
        theirs: Iterable[Metric] = self._workers.collect()  # type: ignore[no-untyped-call] # as above
        for family in theirs:
            ours = families.setdefault(family.name, family)
            if ours is family or family.name in _OF_LEADER:
                continue
            values = {(sample.name, frozenset(sample.labels.items())): sample for sample in ours.samples}
            for sample in family.samples:
                key = (sample.name, frozenset(sample.labels.items()))
                known = values.get(key)
                values[key] = sample if known is None else sample._replace(value=known.value + sample.value)
            ours.samples = list(values.values())
        yield from families.values()


@dataclass(eq=False, slots=True)
class _Worker:
    """A worker as the leader sees it."""

    process: asyncio.subprocess.Process
    messages: _Messages
    is_serving: bool = False
    # What came of the last reload: its problems, or none.
    reloaded: asyncio.Future[list[str]] | None = None


@dataclass(slots=True)
class _Crew:
    """The workers, each of which has a place that is filled again when it becomes free."""

    configuration: Configuration
    addresses: Sequence[tuple[socket.AddressFamily, Any]]
    folder: Path
    command: Sequence[str]
    recent: Recent
    readiness: Readiness
    log: Log
    failure: asyncio.Future[None]
    workers: set[_Worker] = field(default_factory=set)
    # How many ended one after the other before they served.
    failed_starts: int = 0
    # Set once all have served at one time, and from when on none is replaced.
    complete: asyncio.Event = field(default_factory=asyncio.Event)
    ending: asyncio.Event = field(default_factory=asyncio.Event)

    async def fill(self) -> None:
        """Keep one place filled until the end, or until workers do nothing but end."""
        try:
            pause_s = _FIRST_PAUSE_S
            while not self.ending.is_set() and not self.failure.done():
                lived_s = await self._filled_once(pause_s)
                await asyncio.sleep(pause_s)
                pause_s = _FIRST_PAUSE_S if lived_s > _PROVEN_AFTER_S else min(2 * pause_s, _LONGEST_PAUSE_S)
        except Exception as error:
            # A place that nobody fills any more would not be missed until the last one is free.
            if self.failure.done():
                raise
            self.failure.set_exception(error)

    async def _filled_once(self, pause_s: float) -> float:
        """Start a worker, hear it to its end, and return for how long it lived; the next one comes after `pause_s`."""
        try:
            worker = await self._started()
        except OSError as error:
            reason = error.strerror or type(error).__name__
            self.log.error("worker_not_started", reason=reason, next_in_s=pause_s)  # noqa: TRY400 - told in a word
            self._count_failed_start("none could be started")
            return 0
        began_s = asyncio.get_running_loop().time()
        self.workers.add(worker)
        await self._hear(worker)
        status = await worker.process.wait()
        self.workers.discard(worker)
        self._follow_readiness()
        mark_process_dead(worker.process.pid, path=str(self.folder))  # type: ignore[no-untyped-call] # no types
        if worker.reloaded is not None and not worker.reloaded.done():
            # The next one reads the files as they are then.
            worker.reloaded.set_result([])
        if not self.ending.is_set():
            self.log.error("worker_died", pid=worker.process.pid, exit_status=status, next_in_s=pause_s)
            if worker.is_serving:
                self.failed_starts = 0
            else:
                self._count_failed_start(f"the last with status {status}")
        return asyncio.get_running_loop().time() - began_s

    def _count_failed_start(self, how: str) -> None:
        self.failed_starts += 1
        if self.failed_starts >= _FAILED_STARTS_AT_MOST and not self.complete.is_set() and not self.failure.done():
            self.failure.set_exception(
                StartError(
                    f"{_FAILED_STARTS_AT_MOST} worker processes in a row ended before they served, {how}; mend what "
                    "they say above, or run one with --workers 1"
                )
            )

    async def _started(self) -> _Worker:
        ours, theirs = socket.socketpair()
        plugs = [_plug(family, address) for family, address in self.addresses]
        try:
            place = Place(theirs.fileno(), tuple(plug.fileno() for plug in plugs), str(self.folder))
            process = await asyncio.create_subprocess_exec(
                *self.command,
                "--worker-at",
                place.argument(),
                stdin=asyncio.subprocess.DEVNULL,
                pass_fds=(place.control, *place.plugs),
                env={**os.environ, _FOLDER_VARIABLE: str(self.folder)},
            )
        except BaseException:
            ours.close()
            raise
        finally:
            for plug in (theirs, *plugs):
                plug.close()
        return _Worker(process, await _Messages.on(ours))

    async def _hear(self, worker: _Worker) -> None:
        """Take in what `worker` says until it ends."""
        if self.ending.is_set():
            worker.messages.say("drain")
        while (message := await worker.messages.next()) is not None:
            match message["what"]:
                case "serving":
                    worker.is_serving = True
                    self._follow_readiness()
                case "note":
                    self.recent.add(Note.of_document(message["note"]))
                case "reloaded" if worker.reloaded is not None and not worker.reloaded.done():
                    worker.reloaded.set_result(message["problems"])
        worker.messages.close()

    def _follow_readiness(self) -> None:
        """Be ready once all have served, for as long as at least one does."""
        serving = sum(worker.is_serving for worker in self.workers)
        if serving == self.configuration.settings.workers:
            self.complete.set()
        if self.complete.is_set() and not self.ending.is_set():
            self.readiness.phase = Phase.SERVING if serving else Phase.STARTING

    async def take_over(self, read: Configuration) -> Mapping[str, object]:
        """Have all workers read the files anew, which have been `read` here already.

        Raises:
            UnusableInputError: a worker could not.
        """
        egress_proxy_of(read.settings)
        configuration, told = follow(self.configuration, read)
        loop = asyncio.get_running_loop()
        asked = [worker for worker in self.workers if worker.is_serving]
        answers = []
        for worker in asked:
            worker.reloaded = loop.create_future()
            answers.append(worker.reloaded)
            worker.messages.say("reload")
        if answers:
            await asyncio.wait(answers, timeout=_RELOADED_WITHIN_S)
        problems = [
            f"worker {worker.process.pid}: {problem}"
            for worker, answer in zip(asked, answers, strict=True)
            for problem in (answer.result() if answer.done() else [f"no answer within {_RELOADED_WITHIN_S:g} s"])
        ]
        if problems:
            raise UnusableInputError("\n".join(problems))
        self.configuration = configuration
        log = configuration.settings.log
        self.log.follow(level=log.level, style=log.format, repeats=log.repeats_per_minute)
        return told

    def reload_interval_s(self) -> float:
        """Return how often to look at the files."""
        return self.configuration.settings.reload.interval_s

    async def drain(self, filling: Iterable[asyncio.Task[None]]) -> None:
        """Have all workers finish what runs; those that take too long are ended."""
        self.ending.set()
        drain = self.configuration.settings.drain
        for worker in self.workers:
            worker.messages.say("drain")
        busy = {asyncio.ensure_future(worker.process.wait()) for worker in self.workers}
        if busy:
            await asyncio.wait(busy, timeout=drain.delay_s + drain.timeout_s + _LAST_MOMENT_S)
        self.kill()
        for task in filling:
            task.cancel()
        await asyncio.wait(list(filling))

    def kill(self) -> None:
        """End all workers at once."""
        for worker in self.workers:
            with suppress(ProcessLookupError):
                worker.process.kill()


async def lead(configuration: Configuration, source: Source, stream: TextIO, command: Sequence[str]) -> None:
    """Run `workers` processes until SIGTERM or SIGINT, then drain; a second signal ends all at once, SIGHUP reloads.

    `command` starts a worker when `--worker-at` and its place are put behind it.

    Raises:
        ListenError: an address cannot be listened on.
        StartError: this system cannot do it, this aiohttp is not to be trusted, or workers do not start.
    """
    require_parser()
    settings = configuration.settings
    _require_balance(settings.workers)
    if _FOLDER_VARIABLE in os.environ:
        raise StartError(f"{_FOLDER_VARIABLE}: must not be set, as workers are given a folder of their own; unset it")
    egress_proxy_of(settings)
    require_tracing(settings)
    loop = asyncio.get_running_loop()
    async with AsyncExitStack() as stack:
        folder = stack.enter_context(_folder())
        own, merged = CollectorRegistry(), CollectorRegistry()
        merged.register(Merged(own, folder))
        telemetry = Telemetry(own, configuration.catalog, configuration.codes)
        readiness = Readiness(telemetry.ready)
        log = stack.enter_context(
            logging_to(
                _SharedStream(stream, folder),  # type: ignore[arg-type] # as much of a stream as a log asks for
                level=settings.log.level,
                style=settings.log.format,
                repeats=settings.log.repeats_per_minute,
                on_event=telemetry.count_log_line,
                on_dropped=telemetry.count_dropped_line,
                on_left_out=telemetry.count_suppressed_line,
            )
        )
        status = Status(telemetry.recent, lambda: readiness.phase.value)
        admin = admin_application(merged, readiness, status.routes())
        try:
            admin_address = await stack.enter_async_context(
                administering(admin, settings.admin.host, settings.admin.port)
            )
        except OSError as error:
            raise ListenError(listen_problem(settings.admin.host, settings.admin.port, error)) from error
        addresses = await stack.enter_async_context(_reserved(settings.listen.host, settings.listen.port))
        crew = _Crew(configuration, addresses, folder, command, telemetry.recent, readiness, log, loop.create_future())
        stop, reload_wanted = _signals(crew)
        tasks: list[asyncio.Task[Any]] = []
        filling = [loop.create_task(crew.fill()) for _ in range(settings.workers)]
        try:
            tasks += (loop.create_task(stop.wait()), loop.create_task(crew.complete.wait()))
            first: list[asyncio.Future[Any]] = [*tasks, crew.failure]
            await asyncio.wait(first, return_when=asyncio.FIRST_COMPLETED)
            if crew.failure.done():
                crew.failure.result()
            if crew.complete.is_set():
                status.proxy_url = url_of("https" if configuration.listener_tls else "http", *addresses[0][1][:2])
                _tell_start(log, crew, status.proxy_url, url_of("http", *admin_address))
                reloader = Reloader(source, reload_wanted, crew.take_over, crew.reload_interval_s, log, telemetry)
                tasks.append(loop.create_task(reloader.run()))
            await asyncio.wait([tasks[0], crew.failure], return_when=asyncio.FIRST_COMPLETED)
            if crew.failure.done():
                crew.failure.result()
        finally:
            for task in tasks:
                task.cancel()
            readiness.phase = Phase.DRAINING
            status.end()
            if crew.complete.is_set():
                drain = crew.configuration.settings.drain
                log.info("draining", delay_s=drain.delay_s, timeout_s=drain.timeout_s)
            await crew.drain(filling)


def _signals(crew: _Crew) -> tuple[asyncio.Event, asyncio.Event]:
    """Return what SIGTERM and SIGINT set, and what SIGHUP does; a second one of the former ends everything at once."""
    stop, reload_wanted = asyncio.Event(), asyncio.Event()

    def on_signal() -> None:
        if stop.is_set():
            crew.kill()
            shutil.rmtree(crew.folder, ignore_errors=True)
            os._exit(1)
        stop.set()

    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGHUP, reload_wanted.set)
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, on_signal)
    return stop, reload_wanted


def _tell_start(log: Log, crew: _Crew, url: str, admin_url: str) -> None:
    settings = crew.configuration.settings
    log.info(
        "serving",
        listen=url,
        admin=admin_url,
        upstream=settings.upstream.url,
        mode=settings.check.mode.value,
        operations=len(crew.configuration.catalog.operations),
        loop=kind_of(asyncio.get_running_loop()),
        workers=settings.workers,
    )
    log.info("without_exemplars", reason="the metrics of several processes are merged, which loses exemplars")


def _require_balance(workers: int) -> None:
    """Raise StartError where the kernel does not spread connections over the sockets of one port."""
    if sys.platform != "linux" or not hasattr(socket, "SO_REUSEPORT"):
        raise StartError(
            f"workers = {workers}: this system does not spread connections over processes as Linux does; run one, "
            "and more replicas for more load"
        )


@contextmanager
def _folder() -> Iterator[Path]:
    """Make a new private folder for the length of the block."""
    try:
        path = Path(tempfile.mkdtemp(prefix="defender-sidecar-"))
    except OSError as error:
        raise StartError(
            f"no folder for the workers' metrics can be made ({(error.strerror or str(error)).lower()}); name one that "
            "can be written to in TMPDIR, or run one worker"
        ) from error
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)


def _plug(family: socket.AddressFamily, address: Any) -> socket.socket:
    """Return a socket that is bound to `address` beside others of this program; it does not listen."""
    plug = socket.socket(family, socket.SOCK_STREAM)
    try:
        plug.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        plug.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        if family is socket.AF_INET6:
            plug.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        plug.bind(address)
    except BaseException:
        plug.close()
        raise
    return plug


def _require_free(family: socket.AddressFamily, address: Any) -> None:
    """Raise OSError if somebody listens there: another crew of ours would otherwise share the port without a word."""
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family is socket.AF_INET6:
            probe.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        probe.bind(address)


@asynccontextmanager
async def _reserved(host: str, port: int) -> AsyncIterator[list[tuple[socket.AddressFamily, Any]]]:
    """Hold `port` of `host` for the length of the block, and yield the addresses; port 0 becomes one that is free.

    Raises:
        ListenError: the address is taken, or is not this machine's.
    """
    plugs: list[socket.socket] = []
    try:
        try:
            found = await asyncio.get_running_loop().getaddrinfo(
                host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
            )
            for family, _, _, _, address in dict.fromkeys(found):
                if not port and plugs:
                    address = (address[0], plugs[0].getsockname()[1], *address[2:])  # noqa: PLW2901 - one for all
                _require_free(family, address)
                plugs.append(_plug(family, address))
        except OSError as error:
            raise ListenError(listen_problem(host, port, error)) from error
        yield [(plug.family, plug.getsockname()) for plug in plugs]
    finally:
        for plug in plugs:
            plug.close()
