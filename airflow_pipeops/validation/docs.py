"""Great Expectations' page of a validation, made to stand alone: it is kept for years, and opened in a sandbox."""

from __future__ import annotations

import contextlib
import copy
import logging
import re
from collections.abc import Iterator
from typing import Any

from airflow_pipeops.base.markup import inert

#: What the page would fetch from elsewhere: styles, scripts, its logo and its newsletter.
_ELSEWHERE = re.compile(
    r"<link[^>]*href=\"https?://[^>]*>"
    r"|<script[^>]*src=\"https?://[^>]*>\s*</script>"
    r"|<img[^>]*src=\"https?://[^>]*>"
    r"|<footer.*?</footer>"
    # Its icon, beside the page in a whole site.
    r"|<link[^>]*href=\"\.\./[^>]*>",
    re.DOTALL | re.IGNORECASE,
)

#: Where a link leads to another page of a whole site, of which this one stands alone.
_SITE = re.compile(r" href=\"\.\./[^\"]*\"")

_STYLE = """<style>
body { font: 14px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 75rem; color: #1a202c; }
table { border-collapse: collapse; margin: .5rem 0 1.5rem; } td, th { border: 1px solid #e2e8f0; padding: .3rem .7rem;
  text-align: left; vertical-align: top; } th { background: #f7fafc; }
nav, .breadcrumb, #ge-cta-footer { display: none; } .badge { border-radius: .6rem; padding: 0 .5rem; background: #edf2f7; }
.fa-check-circle::before { content: "\\2714 passed"; color: #2f855a; }
.fa-times::before, .fa-times-circle::before { content: "\\2718 failed"; color: #c53030; }
.fa-exclamation-triangle::before { content: "\\26A0 error"; color: #b7791f; }
</style>"""


def page(result: Any) -> str:
    """Return the page of a validation result as one HTML file that fetches nothing."""
    from great_expectations.render.renderer.page_renderer import ValidationResultsPageRenderer
    from great_expectations.render.view.view import DefaultJinjaPageView

    result = copy.deepcopy(result)
    for item in result.results:
        _without_text(item.exception_info)
        item.result = _plain(item.result)
        # Great Expectations writes names and values into its page as they are.
        item.expectation_config = type(item.expectation_config)(
            **{**item.expectation_config.to_json_dict(), "kwargs": _plain(item.expectation_config.kwargs)}
        )
        item.exception_info = _plain(item.exception_info)
    result.meta = _plain(result.meta)
    renderer: Any = ValidationResultsPageRenderer(run_info_at_end=True)
    view: Any = DefaultJinjaPageView()
    with _without_log():
        html = _ELSEWHERE.sub("", str(view.render(renderer.render(result))))
    html = _SITE.sub("", html)
    return html.replace("</head>", f"{_STYLE}</head>", 1)


def _plain(value: Any) -> Any:
    """Make numbers of NumPy plain ones, which alone Great Expectations can draw, and texts harmless ones."""
    if isinstance(value, str):
        return inert(value)
    if isinstance(value, dict):
        return {_plain(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return value.item() if hasattr(value, "item") and not getattr(value, "shape", None) else value


@contextlib.contextmanager
def _without_log() -> Iterator[None]:
    """Keep what the drawing logs out of the task's log: where it fails, it quotes what it could not draw."""
    log = logging.getLogger("great_expectations.render")
    before = log.level
    log.setLevel(logging.CRITICAL + 1)
    try:
        yield
    finally:
        log.setLevel(before)


def _without_text(info: Any) -> None:
    """Leave out what an exception says, in place: its text may quote the data."""
    if not isinstance(info, dict):
        return
    for part in info.values():
        _without_text(part)
    if info.get("exception_message"):
        info["exception_message"] = "see the finding for its type"
        info["exception_traceback"] = ""
