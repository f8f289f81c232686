"""Pages as Chromium lays them out, at several widths: what is wider than its box, and what stays in sight while a box scrolls."""

from __future__ import annotations

import html
import json
import re
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
FLAGS = ("--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-dev-shm-usage")

# Each page is in a frame of its own, so one start of Chromium measures all; a frame's width is that of its media queries, and
# the script looks in from outside, so the page's own policy, which allows no scripts, stays.
_FRAME = '<iframe style="width: {}px; height: 900px; border: 0" srcdoc="{}"></iframe>'
_MEASURE = """
(page, window) => {
const named = e => `<${e.tagName.toLowerCase()}${e.className ? ' class=' + JSON.stringify(e.className) : ''}> ` +
  JSON.stringify(e.textContent.trim().replace(/\\s+/g, ' ').slice(0, 60))
  const root = page.documentElement, wider = [], scrolls = [], lost = []
  page.querySelectorAll('details').forEach(one => { one.open = true })
  if (root.scrollWidth > root.clientWidth) wider.push(`the page: ${root.scrollWidth} px in ${root.clientWidth}`)
  for (const box of page.body.querySelectorAll('*:not(svg *)')) {
    if (!box.clientWidth || box.scrollWidth <= box.clientWidth + 1) continue
    const style = window.getComputedStyle(box)
    if (style.display === 'inline') continue
    const own = ['auto', 'scroll'].includes(style.overflowX)
    ;(own ? scrolls : wider).push(`${box.scrollWidth} px in ${box.clientWidth}: ${named(box)}`)
    if (!own) continue
    box.scrollLeft = box.scrollWidth
    const edge = box.getBoundingClientRect()
    for (const row of box.querySelectorAll('tr')) {
      const first = row.cells[0].getBoundingClientRect()
      if (Math.abs(first.left - edge.left) > 2) lost.push(`the first column: ${named(row)}`)
    }
    box.scrollLeft = 0
  }
  for (const best of page.querySelectorAll('.best')) {
    const cell = best.cells ? best.cells[0] : best, seen = cell.getBoundingClientRect()
    if (seen.width === 0 || seen.left < 0 || seen.right > root.clientWidth) lost.push(`the best round: ${named(best)}`)
  }
  return {wider, scrolls, lost}
}
"""
_SCRIPT = """
onload = () => {
  const look = LOOK, frames = [...document.querySelectorAll('iframe')]
  const found = JSON.stringify(frames.map(frame => look(frame.contentDocument, frame.contentWindow)))
  document.body.textContent = '' // the frames' sources would be dumped too
  document.body.append(found)
}
"""


@dataclass(frozen=True)
class Layout:
    """What was found in a page with all its details open. Each line says what, and how wide.

    `wider` lists what sticks out of its box or the page, `scrolls` what can be scrolled sideways inside its own box, and
    `lost` what does not stay in sight: a first column while its box scrolls, or the best round.
    """

    page: str
    width: int
    wider: list[str]
    scrolls: list[str]
    lost: list[str]


def laid_out(pages: Mapping[str, str], widths: Sequence[int], folder: Path) -> list[Layout]:
    """The layout of each page (name → HTML) at each width in pixels, of which a scroll bar takes 15.

    Skips the test without Chromium.
    """
    places = [(name, width) for name in pages for width in widths]
    found = looked_at([(pages[name], width) for name, width in places], _MEASURE, folder)
    return [Layout(*place, **one) for place, one in zip(places, found, strict=True)]


def looked_at(pages: Sequence[tuple[str, int]], look: str, folder: Path) -> list[Any]:
    """What the function `look`, ``(document, window) => value`` in JavaScript, returns for each page (HTML, width).

    Skips the test without Chromium.
    """
    if CHROMIUM is None:
        pytest.skip("chromium is not installed, so no page can be laid out")
    frames = "".join(_FRAME.format(width, html.escape(page)) for page, width in pages)
    path = folder / "frames.html"
    script = _SCRIPT.replace("LOOK", look.strip())
    path.write_text(f'<!doctype html><meta charset="utf-8"><body>{frames}<script>{script}</script>', encoding="utf-8")
    command = [CHROMIUM, *FLAGS, f"--user-data-dir={folder / 'chromium'}", "--dump-dom", path.as_uri()]
    dumped = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True).stdout
    body = re.search(r"<body>(\[.*\])", dumped, re.DOTALL)
    assert body, f"Chromium has not looked at the pages: {dumped[-500:]}"
    found: list[Any] = json.loads(html.unescape(body[1]))
    return found
