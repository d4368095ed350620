"""Makes the pictures of the README: the sample company, asked its known questions, as an administrator sees it.

    .venv/bin/python scripts/screenshots.py            # docs/images/{home,requests,request,objectives}.png

It needs the test extra and the system's Chromium; nothing is fetched.
"""

from __future__ import annotations

import shutil
import sys
import tempfile
from pathlib import Path

from playwright.sync_api import sync_playwright

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from tests.road.conftest import serving  # noqa: E402 - as above

from mainstay.app import open_app  # noqa: E402 - the road to the tests' helper is laid above
from mainstay.cli.demo import fill_demo, write_demo  # noqa: E402 - as above
from mainstay.evaluation import load_queries  # noqa: E402 - as above

PASSWORD = "a picture of the console"
AGREEMENT = """\
objectives:
  - {name: there, measure: availability, target: 0.99, window: 28d}
  - {name: quick, measure: latency_p95_ms, target: 2000, window: 7d}
  - {name: cited, measure: citation_coverage, target: 0.9, window: 7d}
budgets:
  - {of: service, per: month, usd: "50"}
"""
SIZE = {"width": 1280, "height": 800}


def main() -> None:
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if chromium is None:
        raise SystemExit("no Chromium here: apt-get install chromium")
    target = ROOT / "docs" / "images"
    target.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as held:
        folder = Path(held) / "demo"
        write_demo(folder)
        (folder / "agreement.yaml").write_text(AGREEMENT, encoding="utf-8")
        with open_app(folder) as app:
            fill_demo(app, folder)
            for query in load_queries(folder / "queries") * 3:  # clauses say "too little data" of fewer
                app.answer_as(query.question, query.asker)
            app.people.set_password("hugo", PASSWORD)
            app.traces.settle()
            request = next(
                one.request_id for one in app.traces.recent(asker="user:alice", limit=40) if one.status == "answered"
            )
            with serving(app) as address, sync_playwright() as driver:
                browser = driver.chromium.launch(executable_path=chromium, args=["--no-sandbox", "--disable-gpu"])
                page = browser.new_page(viewport=SIZE, color_scheme="light")
                page.goto(f"{address}/sign-in")
                page.fill("#name", "hugo")
                page.fill("#password", PASSWORD)
                page.click("form[action='/sign-in'] button")
                page.wait_for_selector("form[action='/sign-out']")
                for name, path in {
                    "home": "/",
                    "requests": "/requests",
                    "request": f"/requests/{request}",
                    "objectives": "/objectives",
                }.items():
                    page.goto(address + path, wait_until="load")
                    page.screenshot(path=str(target / f"{name}.png"), animations="disabled")
                    print(target / f"{name}.png")
                browser.close()


if __name__ == "__main__":
    main()
