"""What the documentation site needs beside mkdocs.yml: pages from outside docs/, and docstrings as Markdown."""

from __future__ import annotations

import posixpath
import re
from pathlib import Path
from typing import Any

import griffe
from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parents[1]

#: File of the repository, outside docs/ -> the page that it is in the site.
PAGES = {
    "CHANGELOG.md": "changelog.md",
    "CONTRIBUTING.md": "contributing.md",
    "SECURITY.md": "security.md",
    "helm/pipeops/README.md": "helm.md",
}
_FILES = {page: file for file, page in PAGES.items()}

_LINK = re.compile(r"\]\(([^)#\s]+)")
_ROLE = re.compile(r":\w+:`~?([\w.]+)`")


def on_files(files: Files, config: Any) -> Files:
    """Add the pages from outside docs/.

    :param files: those of docs/.
    :param config: of the site.
    :return: all files of the site.
    """
    for file, page in PAGES.items():
        files.append(File.generated(config, page, content=(ROOT / file).read_text()))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Lead each link between files of the repository to the page that the file is in the site.

    :param markdown: text of the page.
    :param page: where it is in the site.
    :return: the text with such links.
    """
    where = page.file.src_uri
    folder = posixpath.dirname(_FILES.get(where, f"docs/{where}"))

    def led(match: re.Match[str]) -> str:
        file = posixpath.normpath(posixpath.join(folder, match[1]))
        if "://" in match[1] or not (file in PAGES or file.startswith("docs/")):
            return match[0]
        target = PAGES.get(file, file.removeprefix("docs/"))
        return f"]({posixpath.relpath(target, posixpath.dirname(where) or '.')}"

    return _LINK.sub(led, markdown)


class Docstrings(griffe.Extension):
    """Writes the roles and literal blocks of docstrings as Markdown."""

    def on_object(self, *, obj: griffe.Object, **_: Any) -> None:
        """Rewrite the docstring of an object.

        :param obj: a module, a class, a function or an attribute.
        """
        if obj.docstring:
            text = _ROLE.sub(lambda match: f"`{match[1].rpartition('.')[2]}`", obj.docstring.value)
            obj.docstring.value = re.sub(r"::$", ":", re.sub(r"(?m)^::\n", "", text), flags=re.MULTILINE)
