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
import signal
import socket
import sys
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager, suppress
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, Final

from prometheus_client import CollectorRegistry

from proxy.admin import Phase, Readiness
from proxy.core.recent import Note, Recent
from proxy.errors import UnusableInputError
from proxy.listener import ListenError, listen_problem
from proxy.numbers import Numbers, Told, added
from proxy.reload import RELOAD_FAILED_EVENT, Reloader, in_thread, problems_of
from proxy.server import (
    StartError,
    administering_by,
    carrying,
    egress_proxy_of,
    follow,
    keep_pauses_short,
    logging_by,
    require_parser,
    require_tracing,
    tell_start,
    url_of,
)
from proxy.telemetry import Telemetry

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
    from typing import TextIO

    from proxy.configuration import Configuration
    from proxy.logs import Log
    from proxy.numbers import Sum
    from proxy.reload import Source
    from proxy.server import Plant
    from proxy.settings import Settings

_LINE_BYTES_AT_MOST: Final = 2**20
# What a worker holds for a leader that does not read; notes beyond that are left out.
_NOTES_BYTES_AT_MOST: Final = 2**20
# In place of the number of a question, which begin at 1.
_NOBODY_ASKED: Final = 0
_LOG_BYTES_HELD_AT_MOST: Final = 64 * 1024
# What a worker has to say at its end, for as long as a leader that does not listen deserves.
_LAST_WORDS_S: Final = 5.0

_FILES_VARIABLE: Final = "PROMETHEUS_MULTIPROC_DIR"

_FAILED_STARTS_AT_MOST: Final = 3
_FIRST_PAUSE_S: Final = 0.1
_LONGEST_PAUSE_S: Final = 30.0
# At a scrape; whoever does not answer in time is told of as when it last did.
_COUNTED_WITHIN_S: Final = 1.0
# How often workers are asked besides: what one has counted since is lost where it is killed.
_BEAT_EACH_S: Final = 5.0
# How long one may say nothing at all. Many that start on few cores take their time.
_SILENT_AT_MOST_S: Final = 30.0
_STARTED_WITHIN_S: Final = 300.0
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
    """What a worker is handed: descriptors of the socket to the leader, of those to listen on, of the log's lock."""

    control: int
    plugs: tuple[int, ...]
    lock: int

    def argument(self) -> str:
        """Return this for the command line."""
        return json.dumps(asdict(self))

    @classmethod
    def of_argument(cls, argument: str) -> Place:
        """Return what `argument` holds."""
        document = json.loads(argument)
        return cls(int(document["control"]), tuple(map(int, document["plugs"])), int(document["lock"]))


class _SharedStream:
    """Standard output as several processes share it: under a lock, and whole lines at a time.

    A write to a pipe is in one piece up to 4 KiB alone (pipe(7), PIPE_BUF), and a line may be longer. `lock` is a
    descriptor of the file that all of them lock; `on_dropped` is called for each line that was not written, but for
    the last of a batch, which the caller counts.
    """

    def __init__(self, stream: TextIO, lock: int, on_dropped: Callable[[], None]) -> None:
        self._stream = stream
        self._lock = lock
        self._on_dropped = on_dropped
        self._held: list[str] = []
        self._held_bytes = 0

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
        if not self._held:
            return
        lines, self._held, self._held_bytes = self._held, [], 0
        # Such a lock (fcntl(2), F_SETLKW) is a process's own, and goes with it.
        fcntl.lockf(self._lock, fcntl.LOCK_EX)
        try:
            self._stream.write("".join(lines))
            self._stream.flush()
        except Exception:
            for _ in lines[1:]:
                self._on_dropped()
            raise
        finally:
            fcntl.lockf(self._lock, fcntl.LOCK_UN)


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

    async def said(self) -> None:
        """Close once the other side has taken all in, or does not come to it."""
        self._writer.close()
        # A leader that is gone has no use for it either.
        with suppress(TimeoutError, ConnectionError):
            async with asyncio.timeout(_LAST_WORDS_S):
                await self._writer.wait_closed()


# The worker.


class _Relay(Recent):
    """Tells the leader, who shows it, what is to be remembered; while the leader is far behind, nothing."""

    def __init__(self, messages: _Messages) -> None:
        super().__init__()
        self._messages = messages

    def add(self, note: Note) -> None:
        """Pass `note` on."""
        self._messages.say_if_room("note", note=note.document())


async def work(configuration: Configuration, source: Source, place: Place, stream: TextIO) -> None:
    """Carry requests until the leader asks for the end, or is gone."""
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        # Those who signal a whole group mean the leader, which passes on what is to be done.
        asyncio.get_running_loop().add_signal_handler(number, lambda: None)
    require_parser()
    messages = await _Messages.on(socket.socket(fileno=place.control))
    settings, registry = configuration.settings, CollectorRegistry()
    telemetry = Telemetry(registry, configuration.catalog, configuration.codes)
    telemetry.recent = _Relay(messages)
    plugs = [socket.socket(fileno=number) for number in place.plugs]
    told = Told(registry)
    with logging_by(settings, _SharedStream(stream, place.lock, telemetry.count_dropped_line), telemetry) as log:
        telemetry.log_to(log, requests=settings.log.requests)
        async with carrying(configuration, telemetry, log, plugs) as plant:
            telemetry.watch(plant.switch.in_flight, plant.switch.connections)
            keep_pauses_short()
            messages.say("serving")
            reloads: asyncio.Queue[int] = asyncio.Queue()
            drain_wanted = asyncio.Event()
            reloading = asyncio.create_task(_reload(messages, plant, source, reloads))
            obeying = asyncio.create_task(_obey(messages, told, reloads, drain_wanted))
            draining = asyncio.create_task(drain_wanted.wait())
            await asyncio.wait([obeying, draining], return_when=asyncio.FIRST_COMPLETED)
            reloading.cancel()
            draining.cancel()
            if obeying.done():
                obeying.result()
            if drain_wanted.is_set():
                # Where the leader is gone, the next one needs the port.
                await asyncio.sleep(plant.listener.settings.drain.delay_s)
        # Until here the leader was told whenever it asked.
        obeying.cancel()
    await _count(messages, told, _NOBODY_ASKED)
    await messages.said()


async def _obey(messages: _Messages, told: Told, reloads: asyncio.Queue[int], drain_wanted: asyncio.Event) -> None:
    """Do what the leader says until it is gone."""
    while (message := await messages.next()) is not None:
        match message["what"]:
            case "drain":
                drain_wanted.set()
            case "reload":
                reloads.put_nowait(message["number"])
            case "count":
                await _count(messages, told, message["number"])


async def _count(messages: _Messages, told: Told, number: int) -> None:
    """Tell the leader what has changed since it asked for the last time; `number` is that of its question."""
    for news in told.news():
        if news["samples"]:
            messages.say("news", **news)
        await asyncio.sleep(0)
    messages.say("counted", number=number)


async def _reload(messages: _Messages, plant: Plant, source: Source, reloads: asyncio.Queue[int]) -> None:
    """Read the files anew for each of `reloads`, which are questions of the leader's, and answer what came of it."""
    while True:
        number = await reloads.get()
        try:
            await plant.take_over(await in_thread(source.read))
        except Exception as error:  # noqa: BLE001 - what runs goes on, and this is told
            problems = problems_of(error)
        else:
            problems = []
        messages.say("reloaded", number=number, problems=problems[:_PROBLEMS_AT_MOST])


# The leader.


@dataclass(eq=False, slots=True)
class _Worker:
    """A worker as the leader sees it."""

    process: asyncio.subprocess.Process
    messages: _Messages
    # How many reloads there had been when it was started.
    reloads: int
    is_serving: bool = False
    # Since when it has said nothing, in beats.
    silent_beats: int = 0
    is_silent: bool = False
    numbers: Numbers = field(default_factory=Numbers)
    # What it has told of an answer that it has not ended yet.
    news: list[dict[str, Any]] = field(default_factory=list)
    # Questions by number, and how many there were. An answer lists problems.
    asked: dict[int, asyncio.Future[list[str]]] = field(default_factory=dict)
    questions: int = 0

    def ask(self, what: str) -> asyncio.Future[list[str]]:
        """Tell it to do something; return the answer to come, which is none of its problems if it ends before."""
        self.questions += 1
        answer = self.asked[self.questions] = asyncio.get_running_loop().create_future()
        self.messages.say(what, number=self.questions)
        return answer

    def answer(self, number: int, problems: list[str]) -> None:
        """Take in an answer."""
        answer = self.asked.pop(number, None)
        if answer is not None:
            answer.set_result(problems)

    def end(self) -> None:
        """Answer what will never be."""
        for number in list(self.asked):
            self.answer(number, [])

    def kill(self) -> None:
        """End it at once."""
        with suppress(ProcessLookupError):
            self.process.kill()


@dataclass(slots=True)
class _Roll:
    """The workers there are, and what is left of those that were."""

    workers: set[_Worker] = field(default_factory=set)
    ended: Numbers = field(default_factory=Numbers)

    def strike(self, worker: _Worker) -> None:
        """Let go of `worker`, but for what it has counted."""
        self.workers.discard(worker)
        self.ended = self.ended.outlived_by(worker.numbers)
        worker.end()

    async def added(self, own: CollectorRegistry) -> Sum:
        """Return what all have counted by now, and what is in `own`."""
        answers = [worker.ask("count") for worker in self.workers if worker.is_serving]
        if answers:
            await asyncio.wait(answers, timeout=_COUNTED_WITHIN_S)
        return await added(own, [self.ended, *(worker.numbers for worker in self.workers)], own_alone=_OF_LEADER)

    def kill(self) -> None:
        """End all workers at once."""
        for worker in self.workers:
            worker.kill()


@dataclass(slots=True)
class _Crew:
    """The workers, each of which has a place that is filled again when it becomes free."""

    configuration: Configuration
    addresses: Sequence[tuple[socket.AddressFamily, Any]]
    lock: int
    command: Sequence[str]
    roll: _Roll
    recent: Recent
    readiness: Readiness
    log: Log
    failure: asyncio.Future[None]
    # How many ended one after the other before they served.
    failed_starts: int = 0
    reloads: int = 0
    # Set once all have served at one time, and from when on none is replaced.
    complete: asyncio.Event = field(default_factory=asyncio.Event)
    ending: asyncio.Event = field(default_factory=asyncio.Event)

    async def fill(self) -> None:
        """Keep one place filled until the end, or until workers do nothing but end."""
        try:
            pause_s = _FIRST_PAUSE_S
            while not self.ending.is_set() and not self.failure.done():
                if await self._filled_once(pause_s):
                    pause_s = _FIRST_PAUSE_S
                    await self._pause(pause_s)
                else:
                    await self._pause(pause_s)
                    pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)
        except Exception as error:
            # A place that nobody fills any more would not be missed until the last one is free.
            if self.failure.done():
                raise
            self.failure.set_exception(error)

    async def _pause(self, seconds: float) -> None:
        """Wait for `seconds`, but no longer than until the end."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self.ending.wait()

    async def _filled_once(self, pause_s: float) -> bool:
        """Start a worker, hear it to its end, and return whether it served; else the next one comes after `pause_s`."""
        try:
            worker = await self._started()
        except OSError as error:
            reason = error.strerror or type(error).__name__
            self.log.error("worker_not_started", reason=reason, next_in_s=pause_s)  # noqa: TRY400 - told in a word
            self._count_failed_start("none could be started")
            return False
        self.roll.workers.add(worker)
        try:
            await self._hear(worker)
            status = await worker.process.wait()
        finally:
            self.roll.strike(worker)
            self._follow_readiness()
        if not self.ending.is_set():
            next_in_s = _FIRST_PAUSE_S if worker.is_serving else pause_s
            silent = {"reason": "silent"} if worker.is_silent else {}
            self.log.error("worker_died", pid=worker.process.pid, exit_status=status, next_in_s=next_in_s, **silent)
            if worker.is_serving:
                self.failed_starts = 0
            else:
                self._count_failed_start(f"the last with status {status}")
        return worker.is_serving

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
        reloads = self.reloads
        with ExitStack() as ours:
            with ExitStack() as theirs:
                own, control = socket.socketpair()
                ours.enter_context(own)
                theirs.enter_context(control)
                plugs = [theirs.enter_context(_plug(family, address)) for family, address in self.addresses]
                place = Place(control.fileno(), tuple(plug.fileno() for plug in plugs), self.lock)
                process = await asyncio.create_subprocess_exec(
                    *self.command,
                    "--worker-at",
                    place.argument(),
                    stdin=asyncio.subprocess.DEVNULL,
                    pass_fds=(place.control, *place.plugs, place.lock),
                )
            # Where this fails, it ends since nobody is at the other end of its socket.
            messages = await _Messages.on(own)
            ours.pop_all()
        return _Worker(process, messages, reloads)

    async def _hear(self, worker: _Worker) -> None:
        """Take in what `worker` says until it ends."""
        if self.ending.is_set():
            worker.messages.say("drain")
        while (message := await worker.messages.next()) is not None:
            worker.silent_beats = 0
            match message["what"]:
                case "serving":
                    worker.is_serving = True
                    if worker.reloads != self.reloads:
                        # It may have read the files before they were changed.
                        worker.ask("reload").add_done_callback(self._tell_late_reload)
                    self._follow_readiness()
                case "note":
                    self.recent.add(Note.of_document(message["note"]))
                case "news":
                    worker.news.append(message)
                    # There may be many, and all here already.
                    await asyncio.sleep(0)
                case "counted":
                    worker.numbers, worker.news = worker.numbers.updated(worker.news), []
                    worker.answer(message["number"], [])
                case "reloaded":
                    worker.answer(message["number"], message["problems"])
        worker.messages.close()

    def _tell_late_reload(self, answer: asyncio.Future[list[str]]) -> None:
        problems = answer.result()
        if problems:
            self.log.error(RELOAD_FAILED_EVENT, trigger="worker", problems=problems)

    async def beat(self) -> None:
        """Ask all that serve for their numbers, now and then, and end those that say nothing any more."""
        while True:
            await asyncio.sleep(_BEAT_EACH_S)
            for worker in list(self.roll.workers):
                # Beats are counted, not the time: a leader that was stopped itself has heard nobody.
                longest_s = _SILENT_AT_MOST_S if worker.is_serving else _STARTED_WITHIN_S
                if worker.silent_beats * _BEAT_EACH_S >= longest_s:
                    worker.is_silent = True
                    worker.kill()
                worker.silent_beats += 1
                if worker.is_serving:
                    worker.ask("count")

    def _follow_readiness(self) -> None:
        """Be ready once all have served, for as long as at least one does."""
        serving = sum(worker.is_serving for worker in self.roll.workers)
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
        self.reloads += 1
        asked = [worker for worker in self.roll.workers if worker.is_serving]
        answers = [worker.ask("reload") for worker in asked]
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
        for worker in self.roll.workers:
            worker.messages.say("drain")
        busy = {asyncio.ensure_future(worker.process.wait()) for worker in self.roll.workers}
        if busy:
            await asyncio.wait(busy, timeout=drain.delay_s + drain.timeout_s + _LAST_MOMENT_S)
        self.roll.kill()
        # Each ends with its worker, one that is just being started included: nobody else would wait for that.
        _, late = await asyncio.wait(list(filling), timeout=_LAST_MOMENT_S)
        self.roll.kill()
        for task in late:
            task.cancel()
        if late:
            await asyncio.wait(late)


async def lead(configuration: Configuration, source: Source, stream: TextIO, command: Sequence[str]) -> None:
    """Run `workers` processes until SIGTERM or SIGINT, then drain; a second signal ends all at once, SIGHUP reloads.

    `command` starts a worker when `--worker-at` and its place are put behind it.

    Raises:
        ListenError: an address cannot be listened on.
        StartError: this system cannot do it, this aiohttp is not to be trusted, or workers do not start.
    """
    _require(configuration.settings)
    settings, loop = configuration.settings, asyncio.get_running_loop()
    roll = _Roll()
    stop, reload_wanted = _signals(roll)
    async with AsyncExitStack() as stack:
        own = CollectorRegistry()
        telemetry = Telemetry(own, configuration.catalog, configuration.codes)
        readiness = Readiness(telemetry.ready)
        # A file in memory alone, which needs no place and leaves nothing behind.
        lock = os.memfd_create("log-lock")
        stack.callback(os.close, lock)
        shared = _SharedStream(stream, lock, telemetry.count_dropped_line)
        log = stack.enter_context(logging_by(settings, shared, telemetry))
        status, admin_url = await stack.enter_async_context(
            administering_by(settings, lambda: roll.added(own), readiness, telemetry)
        )
        addresses = await stack.enter_async_context(_reserved(settings.listen.host, settings.listen.port))
        failure: asyncio.Future[None] = loop.create_future()
        crew = _Crew(configuration, addresses, lock, command, roll, telemetry.recent, readiness, log, failure)
        tasks: list[asyncio.Task[Any]] = []
        filling = [loop.create_task(crew.fill()) for _ in range(settings.workers)]
        try:
            tasks += (loop.create_task(stop.wait()), loop.create_task(crew.complete.wait()))
            first: list[asyncio.Future[Any]] = [*tasks, crew.failure]
            tasks.append(loop.create_task(crew.beat()))
            await asyncio.wait(first, return_when=asyncio.FIRST_COMPLETED)
            if crew.failure.done():
                crew.failure.result()
            if crew.complete.is_set():
                status.proxy_url = url_of("https" if configuration.listener_tls else "http", *addresses[0][1][:2])
                tell_start(log, crew.configuration, status.proxy_url, admin_url, workers=settings.workers)
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


def _signals(roll: _Roll) -> tuple[asyncio.Event, asyncio.Event]:
    """Return what SIGTERM and SIGINT set, and what SIGHUP does; a second one of the former ends everything at once."""
    stop, reload_wanted = asyncio.Event(), asyncio.Event()

    def on_signal() -> None:
        if stop.is_set():
            roll.kill()
            os._exit(1)
        stop.set()

    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGHUP, reload_wanted.set)
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, on_signal)
    return stop, reload_wanted


def _require(settings: Settings) -> None:
    """Refuse to start what workers would fail at.

    Raises:
        StartError: the text says why, and what to do.
    """
    require_parser()
    _require_balance(settings.workers)
    _require_no_files()
    egress_proxy_of(settings)
    require_tracing(settings)


def _require_balance(workers: int) -> None:
    """Raise StartError where the kernel does not spread connections over the sockets of one port."""
    if sys.platform != "linux" or not hasattr(socket, "SO_REUSEPORT"):
        raise StartError(
            f"workers = {workers}: this system does not spread connections over processes as Linux does; run one, "
            "and more replicas for more load"
        )


def _require_no_files() -> None:
    """Raise StartError where prometheus_client would keep its numbers in files, and so tell of no exemplars."""
    if _FILES_VARIABLE in os.environ:
        raise StartError(f"{_FILES_VARIABLE}: must not be set, as workers tell their numbers without files; unset it")


def _plug(family: socket.AddressFamily, address: Any, *, is_first: bool = False) -> socket.socket:
    """Return a socket that is bound to `address` beside others of this program; it does not listen.

    The first takes the address for this crew alone. Another crew of ours, which may share a port as much as our workers
    do, gets it neither while somebody listens there nor while nobody does.
    """
    plug = socket.socket(family, socket.SOCK_STREAM)
    try:
        # Connections of a former process that wait for their end are not in the way.
        plug.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if not is_first:
            plug.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        if family is socket.AF_INET6:
            plug.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        plug.bind(address)
        if is_first:
            plug.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 0)
            plug.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    except BaseException:
        plug.close()
        raise
    return plug


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
                plugs.append(_plug(family, address, is_first=True))
        except OSError as error:
            raise ListenError(listen_problem(host, port, error)) from error
        yield [(plug.family, plug.getsockname()) for plug in plugs]
    finally:
        for plug in plugs:
            plug.close()
