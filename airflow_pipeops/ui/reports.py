"""Make of a stored page what may be shown: whoever wrote it, none of its scripts runs, and it fetches nothing.

A browser's sandbox is not enough. A script in it can still tell another server what it sees: by a peer connection, by
going there, by a download. So a page is shown without any script. Evidently's draws itself by one, and is put together anew:
of its data, which is JSON and no program, and of the program in the installed Evidently.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
from dataclasses import dataclass
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

#: Elements that fetch, lead elsewhere or change what addresses mean, without any script. Links are among them: a browser
#: connects to where one leads as soon as the pointer goes down on it, though it may not go there. By another name, a browser
#: makes none of them, wherever in the text it begins.
_LEADING = re.compile(
    r"<(/?)(?=(?:link|meta|base|iframe|frame|object|embed|portal|fencedframe|a|area|form)\b)", re.IGNORECASE
)

#: How Evidently's page begins to tell its data.
_DATA = re.compile(r"<script>\s*var (\w+) = (?=\{)")
_GRAPHS = re.compile(r";\s*var additional_graphs_(\w+) = (?=\{)")
#: Formats within the texts of a chart; any other element in them is a text.
_MARKUP = re.compile(r"<(?!/?(?:b|i|br|em|sub|sup|strong|extra)\s*/?>)", re.IGNORECASE)

_BEFORE = "globalThis.global = globalThis;"
_AFTER = """const told = JSON.parse(document.getElementById("told").textContent);
window.drawDashboard(told.dashboard, new Map(Object.entries(told.graphs)), "root");"""

_NOTHING = (
    "default-src 'none'; style-src 'unsafe-inline'; img-src data:; font-src data:; frame-ancestors 'self'; base-uri 'none'; "
    "form-action 'none'"
)


@dataclass(frozen=True)
class Shown:
    """A page as it is shown.

    :param html: of it.
    :param policy: what the browser is told to refuse.
    """

    html: str
    policy: str


def shown(content: bytes) -> Shown:
    """Make of a stored page what may be shown.

    :param content: of the stored page, of whoever wrote it.
    :return: the page.
    """
    text = content.decode("utf-8", "replace")
    program = _program()
    if program and (told := _told(text)) is not None:
        return _drawn(told, program)
    return Shown(_LEADING.sub(r"<\1x-", text), f"sandbox; {_NOTHING}")


def _told(text: str) -> dict[str, Any] | None:
    """Read the data of Evidently's page; none if it is another one."""
    begin = _DATA.search(text)
    if begin is None:
        return None
    decoder = json.JSONDecoder(parse_constant=lambda _: None)
    try:
        dashboard, end = decoder.raw_decode(text, begin.end())
        graphs_begin = _GRAPHS.match(text, end)
        if graphs_begin is None or graphs_begin[1] != begin[1]:
            return None
        graphs, _ = decoder.raw_decode(text, graphs_begin.end())
    except (ValueError, RecursionError):
        return None
    return {"dashboard": _plain(dashboard), "graphs": _plain(graphs)}


def _plain(value: Any) -> Any:
    """Leave no element in the texts but those that format."""
    if isinstance(value, str):
        return _MARKUP.sub("\u2039", value)
    if isinstance(value, list):
        return [_plain(item) for item in value]
    if isinstance(value, dict):
        return {_plain(name): _plain(item) for name, item in value.items()}
    return value


def _drawn(told: dict[str, Any], program: str) -> Shown:
    data = json.dumps(told).replace("<", "\\u003c")
    scripts = (_BEFORE, program, _AFTER)
    allowed = " ".join(f"'sha256-{_sha256(script)}'" for script in scripts)
    body = "".join(f"<script>{script}</script>" for script in scripts)
    html = (
        '<!doctype html><html lang="en"><head><title>Report</title></head><body><div id="root"></div>'
        f'<script type="application/json" id="told">{data}</script>{body}</body></html>'
    )
    policy = f"sandbox allow-scripts; {_NOTHING}; script-src {allowed}; worker-src 'none'"
    return Shown(html, policy.replace("img-src data:", "img-src data: blob:"))


@lru_cache(maxsize=8)
def _sha256(script: str) -> str:
    return base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()


@lru_cache(maxsize=1)
def _program() -> str:
    """Read the program of the installed Evidently, without importing it; empty where it is not there."""
    spec = find_spec("evidently")
    for folder in (spec.submodule_search_locations if spec else None) or ():
        path = Path(folder) / "nbextension" / "static" / "index.js"
        if path.is_file():
            program = path.read_text(encoding="utf-8")
            return program if "</script" not in program.lower() else ""
    return ""
