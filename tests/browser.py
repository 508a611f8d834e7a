"""Chromium, as the tests drive it."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

#: How long a page may take to show a fact, in milliseconds: Airflow's pages ask its API for a dozen things, and on a busy
#: machine each takes seconds. It costs nothing where the fact comes.
PATIENCE = 240_000


@contextmanager
def chromium() -> Iterator[Any]:
    """Start a browser that asks nobody but the pages that it is sent to."""
    playwright = pytest.importorskip("playwright.sync_api")
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(
            executable_path=os.environ.get("PIPEOPS_CHROMIUM") or shutil.which("chromium"),
            args=[
                "--no-sandbox",
                "--disable-gpu",
                "--disable-background-networking",
                "--disable-component-update",
            ],
            timeout=PATIENCE,
        )
        yield browser
        browser.close()


def visit(browser: Any, **how: Any) -> Any:
    """Return a new page with a context of its own, in which everything is waited for with patience."""
    context = browser.new_context(**{"viewport": {"width": 1440, "height": 900}, **how})
    context.set_default_timeout(PATIENCE)
    return context.new_page()


def log_in(page: Any, url: str, user: str, password: str) -> None:
    """Log in to Airflow, as a person does."""
    page.goto(url)
    page.fill("input[name=username]", user)
    page.fill("input[name=password]", password)
    page.click("button[type=submit]")
    page.wait_for_url(re.compile(r"^(?!.*login).*$"))
