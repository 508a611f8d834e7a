"""Names and values of data that a library writes into a page."""

from __future__ import annotations

from html import escape
from html.parser import HTMLParser

from hypothesis import given
from hypothesis import strategies as st

from airflow_pipeops.base.markup import inert, inert_names


class Elements(HTMLParser):
    """Counts what a page would make of a text."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: object) -> None:
        self.found.append(tag)


@given(st.text())
def test_nothing_is_left_that_a_page_takes_for_markup(text: str) -> None:
    found = inert(text)
    parser = Elements()
    parser.feed(f"<p title='{found}'>{found}</p>")
    parser.close()
    assert parser.found == ["p"]
    assert escape(found) == found
    assert len(found) == len(text)
    assert inert(found) == found


def test_a_person_still_reads_it() -> None:
    assert inert("dep_hour < 12 & late") == "dep_hour ‹ 12 ⅋ late"
    assert inert("München, 東京\n") == "München, 東京\n"


@given(st.lists(st.text(alphabet='<‹&⅋a" ()2', max_size=6), unique=True))
def test_names_stay_different(names: list[str]) -> None:
    found = inert_names(names)
    assert list(found) == names
    assert len(set(found.values())) == len(names)
