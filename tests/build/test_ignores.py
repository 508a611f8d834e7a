"""``.dockerignore`` as Docker reads it. The expectations follow the examples of its documentation and of its own tests."""

from __future__ import annotations

from pathlib import Path

import pytest

from airflow_pipeops.build import ignores
from airflow_pipeops.exceptions import InvalidInput


@pytest.mark.parametrize(
    ("text", "path", "out"),
    [
        ("*/temp*", "somedir/temporary.txt", True),
        ("*/temp*", "a/b/temporary.txt", False),
        ("*/*/temp*", "somedir/subdir/temporary.txt", True),
        ("temp?", "tempa", True),
        ("temp?", "temp", False),
        ("temp?", "temp/", False),
        ("**/*.go", "a/b/c.go", True),
        ("**/*.go", "c.go", True),
        ("*.go", "a/c.go", False),
        ("*.md\n!README.md", "README.md", False),
        ("*.md\n!README*.md\nREADME-secret.md", "README-secret.md", True),
        ("*.md\nREADME-secret.md\n!README*.md", "README-secret.md", False),
        ("# *.md\n", "a.md", False),
        ("a", "a/b/c", True),
        ("/a", "a/b", True),
        ("a/", "a/b", True),
        ("./a/../b", "b", True),
        ("a\n!a/b", "a/b", False),
        ("a\n!a/b", "a/c", True),
        ("**", "x", True),
        ("**\n!x", "x", False),
        ("a/**", "a/b/c", True),
        ("a/**/c", "a/c", True),
        ("[a-c]x", "bx", True),
        ("[^a-c]x", "bx", False),
        ("[^a-c]x", "dx", True),
        ("a[b]c", "abc", True),
        ("a\\*", "a*", True),
        ("a\\*", "ab", False),
        ("a.b", "axb", False),
        ("(a+", "(a+", True),
        ("ü*", "üb", True),
        (".", "a", False),
        ("", "a", False),
        ("\ufeffa", "a", True),
        ("  a  ", "a", True),
        ("a/b", "x/a/b", False),
        ("**/b", "bb", False),
        ("a**", "ab/c", True),
    ],
)
def test_what_is_left_out(text: str, path: str, out: bool) -> None:
    assert ignores.ignored(path, ignores.patterns(text)) is out


@pytest.mark.parametrize("line", ["[a", "[]", "a\\", "[z-a]"])
def test_a_pattern_that_cannot_be_read_is_named(line: str) -> None:
    with pytest.raises(InvalidInput, match=r"line 2 of \.dockerignore cannot be read"):
        ignores.patterns(f"ok\n{line}\n")


def tree(folder: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    return folder


def there(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if not path.is_dir()}


def test_a_context_is_left_with_what_is_not_ignored(tmp_path) -> None:
    files = {
        ".dockerignore": "a\n!a/keep\nlink\n",
        "a/keep": "",
        "a/go": "",
        "a/deep/go": "",
        "b": "",
        "real": "",
    }
    (tree(tmp_path, files) / "link").symlink_to("real")
    assert ignores.prune(tmp_path, "Containerfile") == 3
    assert there(tmp_path) == {".dockerignore", "a/keep", "b", "real"}
    assert not (tmp_path / "a" / "deep").exists()


def test_a_containerfile_may_have_an_ignore_file_of_its_own(tmp_path) -> None:
    files = {"Containerfile.dockerignore": "a\n", ".dockerignore": "b\n", "a": "", "b": ""}
    ignores.prune(tree(tmp_path, files), "Containerfile")
    assert there(tmp_path) == {"Containerfile.dockerignore", ".dockerignore", "b"}


def test_pointers_of_git_lfs_are_found_and_what_only_looks_like_one_is_not(tmp_path) -> None:
    pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n"
    tree(
        tmp_path,
        {
            "a/m.bin": pointer,
            "b": "version 2\n",
            "c": "x" + pointer,
            "long": pointer + "x" * 2000,
            "empty": "",
        },
    )
    assert ignores.pointers(tmp_path) == ["a/m.bin"]
