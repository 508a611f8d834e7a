"""What of a change still stands, by content."""

from __future__ import annotations

import pytest

from airflow_pipeops.git.values.standing import differing, lost

APPS = "images:\n  - name: web\n    newTag: {}\n  - name: api\n    newTag: {}\nargs: [{}]\n"


def apps(web: str = "v1", api: str = "v1", args: str = "a") -> str:
    return APPS.format(web, api, args)


CASES = {
    "nothing": (apps(), apps("v2"), apps("v2"), []),
    "another value": (apps(), apps("v2"), apps("v2", "v9"), []),
    "taken back": (apps(), apps("v2"), apps("v1"), ["images[name=web].newTag"]),
    "replaced": (apps(), apps("v2"), apps("v3"), ["images[name=web].newTag"]),
    "the same value elsewhere": (apps(), apps("v2"), apps("v1", "v2"), ["images[name=web].newTag"]),
    "text is no number": ("a: 0", "a: 1", "a: '1'", ["a"]),
    "an item in front": (
        apps(),
        apps("v2"),
        apps("v2").replace("images:\n", "images:\n  - name: db\n    newTag: v7\n"),
        [],
    ),
    "an item is gone": (apps(), apps("v2"), "images: []\nargs: [a]\n", ["images[name=web]"]),
    "layout": (apps(), apps("v2"), apps("v2").replace("[a]", "\n  - a") + "# more\n", []),
    "items without names": ("a: [x]", "a: [x, y]", "a: [z, y, x]", []),
    "an unnamed item is gone": ("a: [x]", "a: [x, y]", "a: [x, z]", ["a"]),
    "an unnamed item is gone, and another": ("a: [x]", "a: [x, y]", "a: [x]", ["a"]),
    "a key that is removed": ("a: 1\nb: 2", "a: 1", "a: 3", []),
    "a key that is there again": ("a: 1\nb: 2", "a: 1", "a: 1\nb: 2", ["b"]),
    "a new part": ("a: 1", "a: 1\nb: {c: 1, d: 2}", "a: 1\nb: {c: 1, d: 3, e: 4}", ["b.d"]),
    "a document in front": (
        "kind: A\nmetadata: {name: x}\nn: 1\n",
        "kind: A\nmetadata: {name: x}\nn: 2\n",
        "kind: B\nmetadata: {name: x}\nn: 1\n---\nkind: A\nmetadata: {name: x}\nn: 2\n",
        [],
    ),
    "a document of several": (
        "kind: A\nmetadata: {name: x}\nn: 1\n---\nkind: B\nmetadata: {name: x}\nn: 1\n",
        "kind: A\nmetadata: {name: x}\nn: 2\n---\nkind: B\nmetadata: {name: x}\nn: 1\n",
        "kind: A\nmetadata: {name: x}\nn: 1\n---\nkind: B\nmetadata: {name: x}\nn: 2\n",
        ["[A/x].n"],
    ),
    "an anchor": ("a: &x 1\nb: *x", "a: &x 2\nb: *x", "a: &x 1\nb: *x", ["a"]),
    "a text": ("one\ntwo\n", "one\n2\n", "zero\none\n2\nthree\n", []),
    "a text that is taken back": ("one\ntwo\n", "one\n2\n", "one\ntwo\n", ["line 2"]),
    "a line that is there again": ("one\ntwo\n", "one\n", "one\ntwo\n", ["lines that it removed are there again"]),
    "a removed file": ("a: 1", None, None, []),
    "a removed file that is there again": ("a: 1", None, "a: 1", ["the file is there again"]),
    "an added file": (None, "a: 1", "a: 1\nb: 2", []),
    "an added file that is gone": (None, "a: 1", None, ["the file is gone"]),
    "one that is broken now": ("a: 1", "a: 2", "a: 2\nb: {\n", []),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_by_content(case: str) -> None:
    before, after, now, expected = CASES[case]
    given = [text if text is None else text.encode() for text in (before, after, now)]
    assert lost(*given) == expected


def test_bytes_that_are_no_text() -> None:
    assert lost(b"\xff", b"\xfe", b"\xfe") == []
    assert lost(b"\xff", b"\xfe", b"\xff") == ["its content"]


def test_aliases_are_not_followed() -> None:
    bomb = "a: &a [x, x]\n" + "".join(
        f"{chr(98 + number)}: &{chr(98 + number)} [{', '.join(['*' + chr(97 + number)] * 9)}]\n"
        for number in range(20)
    )
    assert lost(b"z: 1", (bomb + "z: 2").encode(), (bomb + "z: 1").encode()) == ["z"]


def test_values_by_path() -> None:
    assert differing({"a": 1, "b": "1"}, {"a": 1, "b": 1}) == ["b"]
    assert differing({"a": True}, {"a": 1}) == ["a"]
    assert differing({"a": "x"}, {}) == ["a"]
