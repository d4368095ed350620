"""Every screen as people read it who need it larger, wider set, in their own colours, or still (WCAG 2.2 AA).

Zoom of 200 and 400 % in a window of 1280 pixels is a page of 640 and of 320 CSS pixels (1.4.4, 1.4.10). Only tables and
drawings may then be wider than the page, each in a region of its own that has a name and takes the focus.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page

from tests.console.windows import barriers, needed, picture, window
from tests.console.world import World

needed()

ZOOMED = {200: (640, 400), 400: (320, 256)}
ALWAYS = ("home", "request-long", "objectives", "money", "requests")
"""Screens that the quick run looks at."""
SPACED = """
(() => {
  const sheet = new CSSStyleSheet();
  sheet.replaceSync(`* { line-height: 1.5 !important; letter-spacing: .12em !important; word-spacing: .16em !important; }
    p { margin-bottom: 2em !important; }`);
  document.adoptedStyleSheets.push(sheet);
})()
"""
"""Text spacing as 1.4.12 names it."""
OPENED = "document.querySelectorAll('details').forEach((one) => { one.open = true; })"
FLOW = """
(() => {
  const faults = [], said = (e) => e.outerHTML.slice(0, 120).replace(/\\s+/g, " ");
  const root = document.documentElement;
  const hidden = (e) => e.closest(".visually-hidden, .skip") !== null || !e.checkVisibility();
  if (root.scrollWidth > root.clientWidth) {
    const held = (e) => { for (let up = e.parentElement; up; up = up.parentElement)
      if (up !== document.body && up !== root && getComputedStyle(up).overflowX !== "visible") return true; return false; };
    const wide = [...document.body.querySelectorAll("*")].filter(
      (e) => !hidden(e) && e.getBoundingClientRect().right > root.clientWidth + 1 && !held(e));
    faults.push(`${root.scrollWidth - root.clientWidth} px wider than the window: ${wide.slice(-3).map(said).join(" ; ")}`);
  }
  const scrolls = (e) => /auto|scroll/.test(getComputedStyle(e).overflowX) && e.scrollWidth > e.clientWidth + 1;
  for (const e of document.body.querySelectorAll("*")) {
    if (hidden(e) || !e.getClientRects().length) continue;
    const style = getComputedStyle(e);
    if (/hidden|clip/.test(style.overflowX) && !e.closest("svg") && e.scrollWidth > e.clientWidth + 1)
      faults.push(`cut: ${said(e)}`);
    if (e.matches("th, td") && e.scrollWidth > e.clientWidth + 1) faults.push(`out of its cell: ${said(e)}`);
    if (scrolls(e)) {
      const named = e.getAttribute("role") === "region" && e.tabIndex === 0 && e.getAttribute("aria-label");
      if (!named) faults.push(`scrolls without a name: ${said(e)}`);
      if (!e.matches("pre") && !e.querySelector("table, svg, pre")) faults.push(`scrolls for no table: ${said(e)}`);
    }
  }
  const rects = [], walk = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  for (let node = walk.nextNode(); node; node = walk.nextNode()) {
    const parent = node.parentElement;
    if (!node.data.trim() || hidden(parent) || parent.closest("script, style, svg, option")) continue;
    let box = { left: 0, right: Infinity, top: -Infinity, bottom: Infinity };
    for (let e = parent; e && e !== document.body; e = e.parentElement) {
      if (getComputedStyle(e).overflowX === "visible") continue;
      const held = e.getBoundingClientRect();
      box = { left: Math.max(box.left, held.left), right: Math.min(box.right, held.right),
        top: Math.max(box.top, held.top), bottom: Math.min(box.bottom, held.bottom) };
    }
    const range = document.createRange();
    range.selectNodeContents(node);
    for (const r of range.getClientRects()) {
      const left = Math.max(r.left, box.left), right = Math.min(r.right, box.right);
      if (right - left < 3 || r.height < 3) continue;
      if (box.right === Infinity && (left < -1 || right > root.clientWidth + 1)) faults.push(`out of the window: ${said(parent)}`);
      const top = Math.max(r.top + r.height * .2, box.top), bottom = Math.min(r.bottom - r.height * .2, box.bottom);
      if (bottom > top) rects.push({ left, right, top, bottom, node, parent });
    }
  }
  rects.sort((a, b) => a.top - b.top);
  for (let n = 0; n < rects.length; n++)
    for (let m = n + 1; m < rects.length && rects[m].top < rects[n].bottom; m++) {
      const a = rects[n], b = rects[m];
      if (a.node !== b.node && Math.min(a.right, b.right) - Math.max(a.left, b.left) > 2
          && Math.min(a.bottom, b.bottom) - Math.max(a.top, b.top) > 2)
        faults.push(`one over the other: ${said(a.parent)} and ${said(b.parent)}`);
    }
  return [...new Set(faults)].slice(0, 8);
})()
"""
"""Parts that are wider than the page outside a named region, texts that are cut, out of the window, or over one another."""
FORCED = """
(() => {
  const faults = [], probe = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
  const shade = (colour) => {
    probe.clearRect(0, 0, 1, 1); probe.fillStyle = colour; probe.fillRect(0, 0, 1, 1);
    const [r, g, b, a] = probe.getImageData(0, 0, 1, 1).data;
    const part = (v) => (v / 255 <= .04045 ? v / 255 / 12.92 : ((v / 255 + .055) / 1.055) ** 2.4);
    return a < 128 ? null : .2126 * part(r) + .7152 * part(g) + .0722 * part(b);
  };
  const ground = shade(getComputedStyle(document.documentElement).backgroundColor) ?? 1;
  const seen = (colour) => {
    const light = colour === "none" ? null : shade(colour);
    return light !== null && (Math.max(light, ground) + .05) / (Math.min(light, ground) + .05) >= 3;
  };
  for (const e of document.querySelectorAll("main svg :is(rect, line, polyline, polygon, circle, path)")) {
    if (!e.getClientRects().length || e.classList.contains("left-area") || e.classList.contains("over")) continue;
    const style = getComputedStyle(e);
    const drawn = seen(style.fill) || (parseFloat(style.strokeWidth) >= 1 && seen(style.stroke));
    if (!drawn || parseFloat(style.opacity) < .9) faults.push(`not seen: ${e.outerHTML.slice(0, 120)}`);
  }
  const edge = (e) => {
    const s = getComputedStyle(e);
    return ["borderTopWidth", "borderBottomWidth", "fontWeight", "outlineStyle", "textDecorationLine"].map((k) => s[k]).join();
  };
  for (const e of document.querySelectorAll(".views, .screens")) {
    const now = e.querySelector("a[aria-current]"), other = e.querySelector("a:not([aria-current])");
    if (now && other && edge(now) === edge(other)) faults.push(`which one is open is told by colour alone: ${now.outerHTML}`);
  }
  for (const e of document.querySelectorAll("main :is(.badge, .banner, .state)"))
    if (e.getClientRects().length && (getComputedStyle(e).borderTopStyle === "none" || !e.textContent.trim()))
      faults.push(`a state without words or edge: ${e.outerHTML.slice(0, 120)}`);
  return [...new Set(faults)].slice(0, 8);
})()
"""
"""Shapes that vanish among the reader's own colours, and states that are told by colour alone."""
MOVES = """
[...document.querySelectorAll("*")]
  .flatMap((e) => ["", "::before", "::after"].map((part) => [e, getComputedStyle(e, part || null)]))
  .filter(([, s]) => s.animationName !== "none" || parseFloat(s.transitionDuration) > 0 || s.scrollBehavior === "smooth")
  .map(([e]) => e.outerHTML.slice(0, 100)).slice(0, 5)
"""


def screens(made: World, thorough: bool) -> dict[str, str]:
    found = made.screens()
    return found if thorough else {name: path for name, path in found.items() if name in ALWAYS}


def on_zoom(
    browser: Browser, address: str, made: World, zoom: int, folder: Path, *, spaced: bool, thorough: bool
) -> None:
    width, height = ZOOMED[zoom]
    wrong: list[str] = []
    scale = zoom // 100
    with window(browser, address, viewport={"width": width, "height": height}, device_scale_factor=scale) as shown:
        for name, path in screens(made, thorough).items():
            shown.said.clear()
            shown.open(path)
            shown.page.evaluate(OPENED)
            if spaced:
                shown.page.evaluate(SPACED)
            faults = [*shown.page.evaluate(FLOW), *shown.faults(missing=name in ("missing", "requests-wrong"))]
            if thorough:
                faults += barriers(shown.page)
                picture(shown, f"zoom-{zoom}{'-spaced' if spaced else ''}-{name}", folder)
            wrong += [f"{name}: {fault}" for fault in faults]
    assert wrong == [], "\n".join(wrong)


def test_zoomed(browser: Browser, address: str, made: World, tmp_path: Path) -> None:
    on_zoom(browser, address, made, 400, tmp_path, spaced=False, thorough=False)


@pytest.mark.long
@pytest.mark.parametrize("spaced", [False, True], ids=["", "spaced"])
@pytest.mark.parametrize("zoom", list(ZOOMED))
def test_every_screen_zoomed(
    browser: Browser, address: str, made: World, tmp_path: Path, zoom: int, spaced: bool
) -> None:
    on_zoom(browser, address, made, zoom, tmp_path, spaced=spaced, thorough=True)


def in_forced_colours(
    browser: Browser, address: str, made: World, scheme: str, folder: Path, *, thorough: bool
) -> None:
    wrong: list[str] = []
    with window(browser, address, scheme=scheme, forced_colors="active") as shown:
        assert shown.page.evaluate("matchMedia('(forced-colors: active)').matches")
        for name, path in screens(made, thorough).items():
            shown.said.clear()
            shown.open(path)
            shown.page.evaluate(OPENED)
            faults = list(shown.page.evaluate(FORCED))
            if thorough:
                faults += barriers(shown.page)
                picture(shown, f"forced-{scheme}-{name}", folder)
            faults += unseen_focus(shown.page)  # last: the skip link lies over other things while it has the focus
            wrong += [f"{name}: {fault}" for fault in faults]
    assert wrong == [], "\n".join(wrong)


def unseen_focus(page: Page) -> list[Any]:
    """What takes the focus, one after the other, and does not show that it has it."""
    found = []
    for _ in range(25):
        page.keyboard.press("Tab")
        said = page.evaluate(
            "(() => { const e = document.activeElement; if (e === document.body) return null;"
            " const held = e.closest('.ask') && e.matches('textarea') ? e.closest('.ask') : e, s = getComputedStyle(held);"
            " return s.outlineStyle !== 'none' && parseFloat(s.outlineWidth) >= 2 ? null : e.outerHTML.slice(0, 120); })()"
        )
        if said is not None:
            found.append(f"no focus to be seen: {said}")
    return found[:4]


def test_in_the_readers_own_colours(browser: Browser, address: str, made: World, tmp_path: Path) -> None:
    in_forced_colours(browser, address, made, "dark", tmp_path, thorough=False)


@pytest.mark.long
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_screen_in_the_readers_own_colours(
    browser: Browser, address: str, made: World, tmp_path: Path, scheme: str
) -> None:
    in_forced_colours(browser, address, made, scheme, tmp_path, thorough=True)


def test_nothing_moves_for_whoever_wants_it_still(browser: Browser, address: str, made: World) -> None:
    with window(browser, address, reduced_motion="reduce") as shown:
        for path in ("/", "/ask", f"/requests/{made.asked['alice gate']}", "/objectives"):
            shown.open(path)
            if path == "/ask":  # as while an answer is being written
                shown.page.evaluate(
                    "document.querySelector('#result').innerHTML ="
                    ' \'<article class="answer busy"><div class="text">The</div></article>\''
                )
            assert shown.page.evaluate(MOVES) == [], path


def test_these_looks_find_what_is_wrong(browser: Browser, address: str) -> None:
    with window(browser, address, who=None, forced_colors="active") as shown:
        shown.open("/sign-in")
        assert shown.page.evaluate(FLOW) == []
        shown.page.evaluate(
            "(() => { const main = document.querySelector('main'), wide = document.createElement('div');"
            " wide.textContent = 'x'.repeat(400); main.append(wide); wide.style.whiteSpace = 'nowrap';"
            " const cut = document.createElement('p'); cut.textContent = 'y'.repeat(99); main.append(cut);"
            " cut.style.cssText = 'overflow:hidden;width:40px;white-space:nowrap';"
            " const over = document.createElement('p'); over.textContent = 'over'; main.append(over);"
            " const there = document.querySelector('h1').getBoundingClientRect();"
            " over.style.cssText = `position:absolute;margin:0;left:${there.left}px;top:${there.top + scrollY}px`;"
            " const box = document.createElement('div'); box.className = 'badge'; main.append(box);"
            " main.insertAdjacentHTML('beforeend', '<svg width=9 height=9><rect width=9 height=9 fill=white /></svg>'); })()"
        )
        found = " ".join(shown.page.evaluate(FLOW))
        for fault in ("wider than the window", "cut:", "one over the other"):
            assert fault in found, (fault, found)
        forced = " ".join(shown.page.evaluate(FORCED))
        assert "without words" in forced
        assert "not seen" in forced
