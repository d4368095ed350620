"""Reading files in a separate process with limits, because a document is written by whoever wants to be read.

One child lives as long as it behaves. It gets bytes and limits by a pipe and answers in JSON that is checked here;
when it crashes, hangs or asks for too much, it is killed, that one file is quarantined, and the next file gets a
fresh child.
"""

from __future__ import annotations

import contextlib
import signal
import subprocess
import sys
import threading
from dataclasses import asdict, replace
from pathlib import Path
from stat import S_ISREG
from types import TracebackType
from typing import Self

import mainstay
from mainstay.corpus.parsing import wire
from mainstay.corpus.parsing.document import Parsed, Quarantined
from mainstay.corpus.parsing.limits import MIB, ParseLimits
from mainstay.errors import Unavailable
from mainstay.text.language import language

_START_S = 60.0
_FILES_A_CHILD = 1_000  # then a fresh one, so that slow leaks in parsers stay small
# ``-I`` leaves out the environment and the working folder; the program's own place is added last, so that nothing in it
# can stand in for a module of the standard library.
_BOOT = "import sys, runpy; sys.path.append(sys.argv[1]); runpy.run_module(sys.argv[2], run_name='__main__')"
_BOOT_FILE = "import sys, runpy; sys.path.append(sys.argv[1]); runpy.run_path(sys.argv[2], run_name='__main__')"
_ENVIRONMENT = {"LANG": "C.UTF-8", "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}


class Sandbox:
    """Parses files one at a time; threads wait for each other. Use as a context manager, or call ``close``."""

    def __init__(self, limits: ParseLimits | None = None, *, program: Path | None = None) -> None:
        """``program`` is a script to run in place of the built-in worker: how tests play a worker gone wrong."""
        self.limits = limits or ParseLimits()
        self._program = program
        self._lock = threading.Lock()
        self._child: _Child | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the child. The next file would start another."""
        with self._lock:
            self._drop()

    def guards(self) -> tuple[str, ...]:
        """What confines the child on this machine, as the child found out itself."""
        with self._lock:
            return self._ready().guards

    def parse(self, source: Path | bytes, name: str = "") -> Parsed:
        """Read a file, given by path or content. ``name`` is what its ending is taken from; by default the path's.

        Raises Quarantined with the reason, Unavailable when no child can be started.
        """
        shown = name or (source.name if isinstance(source, Path) else "document")
        data = self._content(source, shown)
        with self._lock:
            parsed = self._parse(data, shown)
        # Told here and not in the child: the model takes a second to load, and this process needs it for questions anyway.
        return parsed if parsed.language else replace(parsed, language=language(parsed.text))

    def _content(self, source: Path | bytes, name: str) -> bytes:
        """The bytes, never more than the limit: the size is asked first and the reading bounded all the same."""
        limit = self.limits.max_bytes
        if isinstance(source, bytes):
            data = source
        else:
            try:
                state = source.stat()
                if not S_ISREG(state.st_mode):
                    raise Quarantined("not a regular file", where=name)
                if state.st_size > limit:
                    raise Quarantined(f"{state.st_size} bytes, more than {limit}", where=name)
                with source.open("rb") as file:
                    data = file.read(limit + 1)
            except OSError as error:
                raise Quarantined(f"cannot be opened: {error.strerror}", where=name) from error
        if len(data) > limit:
            raise Quarantined(f"more than {limit} bytes", where=name)
        return data

    def _parse(self, data: bytes, name: str) -> Parsed:
        child = self._ready()
        try:
            message = child.ask(data, name, self.limits)
            if "quarantined" in message:
                if message.get("spent"):
                    self._drop()
                raise Quarantined(str(message["quarantined"]), where=name)
            document = message.get("parsed")
            if not isinstance(document, dict):
                raise wire.BadReply("no document in the reply")
            return wire.decode(document, self.limits)
        except wire.BadReply as error:
            self._drop()
            raise Quarantined(f"the parser answered nonsense: {error}", where=name) from error
        except _Gone as error:
            self._drop()
            raise Quarantined(error.reason, where=name) from error

    def _ready(self) -> _Child:
        if self._child is not None and not self._child.fit():
            self._drop()
        if self._child is None:
            self._child = _Child(self.limits, self._program)
        return self._child

    def _drop(self) -> None:
        child, self._child = self._child, None
        if child is not None:
            child.end()


class _Gone(Exception):
    """The child is no more; ``reason`` says why, for the curator."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class _Child:
    """One running worker."""

    def __init__(self, limits: ParseLimits, program: Path | None) -> None:
        boot = (_BOOT_FILE, str(program)) if program else (_BOOT, "mainstay.corpus.parsing.worker")
        root = str(Path(mainstay.__file__).parents[1])
        self.files = 0
        self._process = subprocess.Popen(  # noqa: S603  # our own interpreter and module; no part of it comes from outside
            [sys.executable, "-I", "-B", "-X", "utf8", "-c", boot[0], root, boot[1]],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=_ENVIRONMENT,
            cwd="/",
            start_new_session=True,
        )
        try:
            hello = self._exchange([wire.to_bytes(asdict(limits))], _START_S, MIB)
        except (_Gone, wire.BadReply) as error:
            self.end()
            raise Unavailable(f"the parser process does not start: {error}", where="parsing") from error
        guards = hello.get("guards")
        self.guards = tuple(str(guard) for guard in guards) if isinstance(guards, list) else ()

    def fit(self) -> bool:
        """Whether this child can take another file."""
        return self._process.poll() is None and self.files < _FILES_A_CHILD

    def ask(self, data: bytes, name: str, limits: ParseLimits) -> dict[str, object]:
        """The child's answer for one file. Raises _Gone when it died or was killed, BadReply."""
        self.files += 1
        try:
            return self._exchange([name.encode("utf-8", "replace"), data], limits.wall_s, wire.most_reply_bytes(limits))
        except _Gone as gone:
            raise _Gone(gone.reason or self._cause(limits)) from gone

    def _exchange(self, frames: list[bytes], seconds: float, most: int) -> dict[str, object]:
        """Send frames and take one; a watchdog kills the child at the deadline, which ends any wait on its pipes."""
        source, sink = self._process.stdin, self._process.stdout
        assert source is not None
        assert sink is not None
        late = threading.Event()

        def stop() -> None:
            late.set()
            self._process.kill()

        watchdog = threading.Timer(seconds, stop)
        watchdog.daemon = True
        watchdog.start()
        try:
            for frame in frames:
                wire.write_frame(source, frame)  # type: ignore[arg-type]  # the pipe is opened in binary mode
            reply = wire.read_frame(sink, most)  # type: ignore[arg-type]  # as above
        except (EOFError, OSError) as error:
            raise _Gone(f"reading it took longer than {seconds:g} s" if late.is_set() else "") from error
        finally:
            watchdog.cancel()
            watchdog.join()
        if late.is_set():
            raise _Gone(f"reading it took longer than {seconds:g} s")
        return wire.from_bytes(reply)

    def _cause(self, limits: ParseLimits) -> str:
        """Why the child ended, from its exit status."""
        try:
            status = self._process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            return "the parser closed its pipe"
        if status == -signal.SIGXCPU:
            return f"reading it took more than {limits.cpu_s:g} s of CPU"
        if status < 0:
            name = signal.Signals(-status).name
            return (
                f"the parser crashed ({name}), perhaps for want of more than {limits.memory_bytes // MIB} MiB of memory"
            )
        return f"the parser crashed (exit status {status})"

    def end(self) -> None:
        """Kill the child if it still runs, and release its pipes."""
        self._process.kill()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                with contextlib.suppress(OSError):  # unsent bytes for a process that is gone
                    pipe.close()
        self._process.wait()
