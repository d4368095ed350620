"""`mainstay models list` and `mainstay models check`, against a scripted provider in both wire formats."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from mainstay.cli import main
from tests.support import upstream as up
from tests.support.upstream import Upstream


def folder_of(tmp_path: Path, base_url: str) -> Path:
    (tmp_path / "mainstay.yaml").write_text(
        f"""\
models:
  answer: writer
  providers:
    writer:
      base_url: {base_url}
      model: scripted
      region: eu
      json: none
      context_tokens: 9000
      price: {{input: "0.15", output: "0.6", long_prompt: {{above: 1000, input: "0.3", output: "1.2"}}}}
    careful: {{kind: anthropic, base_url: {base_url}, model: scripted, price: {{input: "0", output: "0"}}}}
    listed: {{base_url: "https://api.openai.com/v1", model: gpt-4o-mini}}
    unpriced: {{base_url: {base_url}, model: scripted}}
    vectors: {{base_url: {base_url}, model: scripted, dims: 8}}
"""
    )
    return tmp_path


def run(folder: Path, capsys: pytest.CaptureFixture[str], *args: str) -> tuple[int, Any, str]:
    code = 0
    try:
        main(["--folder", str(folder), "models", *args, "--json"])
    except SystemExit as ended:
        code = int(ended.code or 0)
    out, err = capsys.readouterr()
    return code, json.loads(out) if out else None, err


def test_models_are_listed_with_their_prices(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with Upstream() as upstream:
        code, rows, _ = run(folder_of(tmp_path, upstream.base_url), capsys, "list")
        assert not upstream.calls, "listing calls nobody"
    assert code == 0
    found = {row["name"]: row for row in rows}
    writer = found["writer"]
    assert (writer["kind"], writer["region"], writer["context_tokens"]) == ("openai-compatible", "eu", 9000)
    assert writer["price"] == "0.15 / 0.6, above 1000 tokens 0.3 / 1.2"
    assert writer["price_version"] == "settings"
    assert (found["careful"]["kind"], found["careful"]["price"]) == ("anthropic", "free")
    assert found["listed"]["price_version"].startswith("genai-prices ")
    assert found["unpriced"]["price"] == "unknown: not called"


def test_a_model_is_called_when_it_is_named_and_no_other(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with Upstream(up.good("ready"), up.good("ready")) as upstream:
        folder = folder_of(tmp_path, upstream.base_url)
        code, (writer,), _ = run(folder, capsys, "check", "writer")
        assert code == 0
        assert (writer["ok"], writer["streaming"], writer["usage"], writer["end_frame"]) == (True, True, True, True)
        assert writer["json"] is None, "not asked for"
        code, (careful,), _ = run(folder, capsys, "check", "careful")
        assert (code, careful["ok"], careful["json"]) == (0, True, False)
        code, (vectors,), _ = run(folder, capsys, "check", "vectors")
        assert (code, vectors["ok"]) == (0, True)
        assert [call.path for call in upstream.calls] == ["/v1/chat/completions", "/v1/messages", "/v1/embeddings"]


def test_a_check_that_fails_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with Upstream(up.status(401)) as upstream:
        folder = folder_of(tmp_path, upstream.base_url)
        code, (writer,), _ = run(folder, capsys, "check", "writer")
        assert (code, writer["ok"]) == (3, False)
        assert "auth" in writer["detail"]
        for args, said in (
            (("check", "unpriced"), "has no price"),
            (("check", "writer", "--cap-usd", "0.000001"), "at least"),
            (("check", "writer", "--cap-usd", "much"), "--cap-usd"),
            (("check", "nobody"), "models list"),
        ):
            code, out, err = run(folder, capsys, *args)
            assert code != 0
            assert out is None
            assert said in err
        assert len(upstream.calls) == 1
