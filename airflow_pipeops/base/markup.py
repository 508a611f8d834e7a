"""Names and values of data, made harmless before a library writes them into a page."""

from __future__ import annotations

from collections.abc import Iterable

#: What a page or a chart reads as more than a text -> what looks alike, and is read as itself.
_ALIKE = str.maketrans("<>&\"'`", "‹›⅋″′‵")
#: And what cannot be seen: control characters, but for those that part words.
_ALIKE |= {
    code: "\N{REPLACEMENT CHARACTER}" for code in [*range(32), *range(127, 160)] if chr(code) not in "\t\n\r"
}


def inert(text: str) -> str:
    """Write a text so that no page takes a part of it for markup or a program, and a person still reads it.

    :param text: of data: a name or a value.
    :return: the same, with letters that look like those that begin such things.
    """
    return text.translate(_ALIKE)


def inert_names(names: Iterable[str]) -> dict[str, str]:
    """Do so for names, which stay different from each other.

    :param names: different names.
    :return: the harmless name of each.
    """
    found: dict[str, str] = {}
    taken: set[str] = set()
    for name in names:
        harmless = inert(name)
        number = 1
        while harmless in taken:
            number += 1
            harmless = f"{inert(name)} ({number})"
        taken.add(harmless)
        found[name] = harmless
    return found
