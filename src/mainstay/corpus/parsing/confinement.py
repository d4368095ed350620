"""What the parsing child gives up before it reads its first file.

Every guard is tried, and only those that the machine granted are named, so that the parent can show what truly
protects it. Sources: setrlimit(2), unshare(2), prctl(2), landlock(7) of Linux; the numbers are those of its stable
ABI.
"""

from __future__ import annotations

import ctypes
import math
import os
import resource
import socket
import sys
import time
from collections.abc import Callable

from mainstay.corpus.parsing.limits import ParseLimits

_OPEN_FILES = 48  # imports open a few at a time; a file being read needs none
_CLONE_NEWUSER, _CLONE_NEWNET = 0x10000000, 0x40000000
_PR_SET_NO_NEW_PRIVS = 38
_LANDLOCK_CREATE, _LANDLOCK_ADD, _LANDLOCK_RESTRICT = 444, 445, 446
_READ_FILE, _READ_DIR = 1 << 2, 1 << 3
_SYSTEM_PATHS = (
    "/usr/lib",
    "/usr/lib64",
    "/lib",
    "/lib64",
    "/usr/local/lib",
    "/etc/ld.so.cache",
    "/dev/null",
    "/dev/urandom",
)


def confine(limits: ParseLimits) -> tuple[str, ...]:
    """Give up what reading does not need; the names of the guards now in force, in order of strength."""
    guards: tuple[tuple[str, Callable[[], bool]], ...] = (
        ("no-network-namespace", _leave_network),
        ("no-new-privileges", _no_new_privileges),
        ("landlock-files", _landlock),
        ("memory-limit", lambda: _limit("RLIMIT_AS", limits.memory_bytes)),
        ("no-file-writes", lambda: _limit("RLIMIT_FSIZE", 0)),
        ("few-open-files", lambda: _limit("RLIMIT_NOFILE", _OPEN_FILES)),
        ("no-core-dumps", lambda: _limit("RLIMIT_CORE", 0)),
        ("no-new-processes", _no_processes),
        ("no-python-sockets", _no_sockets),
        ("cpu-limit", lambda: allow_cpu(limits.cpu_s)),
    )
    return tuple(name for name, guard in guards if guard())


def allow_cpu(seconds: float) -> bool:
    """Let this process use so many more seconds of CPU; the kernel ends it after that."""
    return _limit("RLIMIT_CPU", math.ceil(time.process_time() + seconds), hard=False)


def _limit(name: str, value: int, *, hard: bool = True) -> bool:
    which = getattr(resource, name, None)
    if which is None:
        return False
    try:
        _, ceiling = resource.getrlimit(which)
        wanted = value if ceiling == resource.RLIM_INFINITY else min(value, ceiling)
        resource.setrlimit(which, (wanted, wanted if hard else ceiling))
    except (OSError, ValueError):  # macOS does not grant RLIMIT_AS
        return False
    return True


def _libc() -> ctypes.CDLL | None:
    if not sys.platform.startswith("linux"):
        return None
    return ctypes.CDLL(None, use_errno=True)


def _leave_network() -> bool:
    """Move to an empty network namespace: not even loopback is up in it. Refused where user namespaces are switched
    off."""
    libc = _libc()
    return libc is not None and libc.unshare(_CLONE_NEWUSER | _CLONE_NEWNET) == 0


def _no_new_privileges() -> bool:
    libc = _libc()
    return libc is not None and libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0


def _no_processes() -> bool:
    """Forbid new processes and find out by trying: the superuser is exempt from this limit."""
    if not _limit("RLIMIT_NPROC", 0):
        return False
    try:
        child = os.fork()
    except OSError:
        return True
    if child == 0:
        os._exit(0)
    os.waitpid(child, 0)
    return False


def _no_sockets() -> bool:
    def refuse(*_: object, **__: object) -> None:
        raise PermissionError("the parser has no network")

    for name in ("socket", "create_connection", "create_server", "socketpair", "getaddrinfo", "gethostbyname"):
        setattr(socket, name, refuse)
    return True


class _PathBeneath(ctypes.Structure):
    _pack_ = 1
    _fields_ = (("allowed", ctypes.c_uint64), ("fd", ctypes.c_int32))


def _landlock() -> bool:
    """Forbid all files but the program's own, which may only be read. Needs Linux 5.13 and ``no_new_privs``."""
    libc = _libc()
    if libc is None:
        return False
    version = libc.syscall(_LANDLOCK_CREATE, None, ctypes.c_size_t(0), 1)
    if version < 1:
        return False
    rights = (1 << 13) - 1 | (1 << 13 if version >= 2 else 0) | (1 << 14 if version >= 3 else 0)
    # Files; from version 4 binding and connecting TCP; from version 6 abstract sockets and signals to others.
    words = [rights, *([3] if version >= 4 else []), *([3] if version >= 6 else [])]
    attributes = (ctypes.c_uint64 * len(words))(*words)
    rules = libc.syscall(_LANDLOCK_CREATE, attributes, ctypes.c_size_t(ctypes.sizeof(attributes)), 0)
    if rules < 0:
        return False
    try:
        for path in _own_paths():
            _permit(libc, rules, path)
        return bool(libc.syscall(_LANDLOCK_RESTRICT, rules, 0) == 0)
    finally:
        os.close(rules)


def _own_paths() -> list[str]:
    """Where Python, its libraries and this program lie."""
    return sorted({*(p for p in (sys.prefix, sys.base_prefix, *sys.path) if p and p != "/"), *_SYSTEM_PATHS})


def _permit(libc: ctypes.CDLL, rules: int, path: str) -> None:
    try:
        fd = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except OSError:  # not on this machine
        return
    try:
        allowed = _READ_FILE | (_READ_DIR if os.path.isdir(path) else 0)  # noqa: PTH112  # a path as the kernel takes it
        rule = _PathBeneath(allowed, fd)
        libc.syscall(_LANDLOCK_ADD, rules, 1, ctypes.byref(rule), 0)
    finally:
        os.close(fd)
