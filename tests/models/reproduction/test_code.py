"""The code of a function is its module and what that imports, told by digest, and by the commit of its working copy."""

from __future__ import annotations

import importlib
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from airflow_pipeops.exceptions import InvalidInput
from airflow_pipeops.models.reproduction.code import Code, checked_out, code_of, files_of

FILES = {
    "shop/__init__.py": "",
    "shop/train.py": "import json\nimport pandas\nfrom shop.parts import scaled\nfrom . import consts\n"
    "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import shop.types_only\n"
    "def train(frame, seed):\n    import beside\n    return scaled\n",
    "shop/parts.py": "from shop import deep\ndef scaled(x): return x\n",
    "shop/deep.py": "import shop.train\n",
    "shop/consts.py": "C = 1\n",
    "shop/types_only.py": "",
    "shop/unused.py": "",
    "beside.py": "import numpy\n",
}


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Code]]:
    """Write files, and return the code of ``shop.train:train``."""
    root = tmp_path / "code"
    monkeypatch.syspath_prepend(str(root))

    def run(**changed: str) -> Code:
        for name, text in {**FILES, **{k.replace("__", "/") + ".py": v for k, v in changed.items()}}.items():
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            (root / name).write_text(text, encoding="utf-8")
        for name in [name for name in sys.modules if name.split(".")[0] in ("shop", "beside")]:
            del sys.modules[name]
        importlib.invalidate_caches()
        return code_of(["shop.train:train"])

    run.root = root  # type: ignore[attr-defined]
    yield run
    for name in [name for name in sys.modules if name.split(".")[0] in ("shop", "beside")]:
        del sys.modules[name]


def test_it_is_the_module_and_what_it_imports_that_nobody_has_released(write: Callable[..., Code]) -> None:
    found = write()
    assert sorted(found.files) == ["beside", "shop", "shop.consts", "shop.deep", "shop.parts", "shop.train"]
    assert (found.commit, found.dirty) == (None, None)
    assert write().digest == found.digest
    assert Code(files_of(["shop.train:train"])).digest == found.digest
    assert write(shop__unused="x = 1", shop__types_only="x = 1").digest == found.digest
    changed = write(beside="import numpy\nx = 1\n")
    assert changed.digest != found.digest
    assert {name for name in found.files if found.files[name] != changed.files[name]} == {"beside"}


def test_a_module_that_cannot_be_read_counts_and_leads_no_farther(write: Callable[..., Code]) -> None:
    found = write(beside="print 'of another Python'\n")
    assert "beside" in found.files
    assert found.digest != write().digest


def test_a_working_copy_has_a_commit_and_may_have_been_changed_since(
    write: Callable[..., Code], monkeypatch: pytest.MonkeyPatch
) -> None:
    write()
    root: Path = write.root  # type: ignore[attr-defined]

    def git(*arguments: str) -> str:
        who = ["-c", "user.name=A", "-c", "user.email=a@example.com"]
        done = subprocess.run(["git", *who, *arguments], cwd=root, capture_output=True, text=True, check=True)
        return done.stdout.strip()

    git("init", "-q")
    (root / ".gitignore").write_text("__pycache__/\n", encoding="utf-8")
    git("add", ".")
    git("commit", "-qm", "first")
    head = git("rev-parse", "HEAD")
    found = write()
    assert (found.commit, found.dirty) == (head, False)
    (root / "elsewhere.txt").write_text("x", encoding="utf-8")
    assert write().dirty is False, "only what is run counts"
    (root.parent / "link").symlink_to(root)
    monkeypatch.syspath_prepend(str(root.parent / "link"))
    assert (write().commit, write().dirty) == (head, False), "by a link, as what syncs a repository shows it"
    assert write(shop__deep="import shop.train\nx = 1\n").dirty is True
    (root / ".gitignore").write_text("shop/\n", encoding="utf-8")
    git("rm", "-rq", "--cached", "shop")
    assert write().commit is None, "what a repository ignores is none of its commits'"


def test_what_is_installed_for_a_user_was_released(
    write: Callable[..., Code], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As in images that install with ``pip install --user``: thousands of files of libraries are none of the code."""
    write()
    monkeypatch.setenv("PYTHONUSERBASE", str(tmp_path / "user"))
    told = "import site, sys; print(site.getusersitepackages())"
    place = Path(
        subprocess.run(
            [sys.executable, "-c", told], capture_output=True, text=True, check=True
        ).stdout.strip()
    )
    place.mkdir(parents=True)
    (place / "beside.py").write_text("", encoding="utf-8")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(place), *filter(None, sys.path)]))
    listed = "from airflow_pipeops.models.reproduction.code import code_of; print(*code_of(['shop.train:train']).files)"
    done = subprocess.run([sys.executable, "-c", listed], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["shop", "shop.consts", "shop.deep", "shop.parts", "shop.train"]


def test_of_this_package_a_functions_own_module_counts() -> None:
    found = code_of(["airflow_pipeops.demo.flights:train", "airflow_pipeops.demo.flights:score"])
    assert list(found.files) == ["airflow_pipeops.demo.flights"]


@pytest.mark.parametrize("commit", ["--force", "main", "0" * 39, ""])
def test_only_a_commit_is_checked_out(commit: str, tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="commit") as refused:
        checked_out(Code({"m": "0" * 64}, commit), str(tmp_path), tmp_path / "code")
    assert refused.value.field == "--checkout"
    assert not (tmp_path / "code").exists()
