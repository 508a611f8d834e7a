"""Connection forms, as a person sees them in a real Airflow."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.browser import chromium, log_in, visit
from tests.ui.conftest import Server

pytestmark = [pytest.mark.browser, pytest.mark.timeout(600)]


@pytest.fixture(scope="module")
def page(server: Server) -> Iterator[Any]:
    with chromium() as browser:
        page = visit(browser, viewport={"width": 1440, "height": 1400})
        log_in(page, server.url, "admin", "pass")
        yield page


def form(page: Any, server: Server, kind: str) -> Any:
    """Open the form of a new connection, and choose its type."""
    page.goto(f"{server.url}/connections")
    page.get_by_role("button", name="Add Connection").click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_role("combobox").first.fill(kind)
    page.get_by_role("option", name=kind, exact=True).click()
    dialog.get_by_text("Extra Fields", exact=True).first.click()
    return dialog


def test_the_mode_of_argo_cd_is_a_word(page: Any, server: Server) -> None:
    dialog = form(page, server, "Argo CD")
    mode = dialog.locator("#element_mode")
    mode.wait_for()
    assert "auto" in mode.inner_text()
    assert "null" not in mode.inner_text()


def test_an_ssh_key_has_room_for_its_lines(page: Any, server: Server) -> None:
    dialog = form(page, server, "Git repository")
    key = dialog.locator("#element_private_key")
    key.wait_for()
    assert key.evaluate("node => node.tagName") == "TEXTAREA"


def test_the_type_of_the_endpoints_is_there(page: Any, server: Server) -> None:
    page.goto(f"{server.url}/connections")
    page.get_by_role("button", name="Add Connection").click()
    page.get_by_role("dialog").get_by_role("combobox").first.fill("HTTP")
    page.get_by_role("option", name="HTTP", exact=True).wait_for()
