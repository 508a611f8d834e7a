"""The code that functions are made of, by digest: their modules, and what those import.

A package that was released, and so has a version, is told by that version. What counts here is what nobody has released:
files beside the DAGs, a package under development; and the functions' own package, released or not. Of this package, which
is a library to all of them, a function's own module alone counts.
"""

from __future__ import annotations

import ast
import hashlib
import importlib.machinery
import importlib.util
import site
import sysconfig
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from airflow_pipeops.base.commits import is_sha
from airflow_pipeops.base.serialisation import JsonForm
from airflow_pipeops.exceptions import InvalidInput, PipeOpsError

_LIBRARY = "airflow_pipeops"
_RELEASED = tuple(
    {
        *(sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib")),
        *site.getsitepackages(),
        site.getusersitepackages(),
    }
)
#: Seconds for which a look at the working copy may stand still.
_PATIENCE = 30.0


@dataclass(frozen=True)
class Code(JsonForm):
    """What was run.

    :param files: module -> SHA-256 of its file.
    :param commit: of the working copy that the first module lies in; ``None`` if it lies in none.
    :param dirty: whether one of the files is not what that commit says.
    """

    files: Mapping[str, str] = field(default_factory=dict)
    commit: str | None = None
    dirty: bool | None = None

    @property
    def digest(self) -> str:
        """One digest for all of the files, in hex."""
        listed = "".join(f"{self.files[name]}  {name}\n" for name in sorted(self.files))
        return hashlib.sha256(listed.encode()).hexdigest()


def code_of(paths: Iterable[str]) -> Code:
    """Find the code of functions.

    :param paths: ``package.module:name`` of each; of modules that can be imported.
    :return: their modules and all that those import, as far as it counts, and the commit of their working copy.
    """
    first, found = _modules(paths)
    commit, dirty = _commit([found[name] for name in first if name in found], found.values())
    return Code(_digests(found), commit, dirty)


def files_of(paths: Iterable[str]) -> dict[str, str]:
    """Find the files of functions: all that a digest is made of, without asking Git.

    :param paths: as for :func:`code_of`.
    :return: module -> SHA-256 of its file.
    """
    return _digests(_modules(paths)[1])


def checked_out(code: Code, repository: str, folder: Path) -> list[str]:
    """Check the commit of recorded code out, into a folder of its own.

    :param code: as it was recorded.
    :param repository: a working copy or a repository that has the commit; it is only read.
    :param folder: that is made.
    :return: the folders within it from which the modules are imported, those first that hold most of them as recorded.
    :raises InvalidInput: where no commit is recorded, or it holds none of the modules.
    :raises SystemFailure: where the repository or the commit cannot be read.
    """
    from airflow_pipeops.git.cache import Cache
    from airflow_pipeops.git.checkout import checkout
    from airflow_pipeops.git.credentials import Credentials, repository_url, shown
    from airflow_pipeops.git.process import Git

    remedy = "Leave --checkout out, or name a working copy or repository of the code."
    commit = code.commit or ""
    if not is_sha(commit):  # else Git might take it for an option
        said = "what is recorded is no commit" if commit else "no commit of the code is recorded"
        raise InvalidInput(said, field="--checkout", value=commit, remedy=remedy)
    named = Path(repository)
    git = Git(
        repository_url(str(named.resolve()) if named.exists() else repository), Credentials(), _PATIENCE
    )
    cache = Cache(git, folder.with_name("git"))
    cache.fetch_commit(commit)
    checkout(git, cache, commit, folder)
    roots: Counter[str] = Counter()
    for name, sha256 in code.files.items():
        for end in (f"{name.replace('.', '/')}.py", f"{name.replace('.', '/')}/__init__.py"):
            for path in folder.rglob(end):
                same = hashlib.sha256(path.read_bytes()).hexdigest() == sha256
                roots[str(path)[: -len(end) - 1]] += 1 + len(code.files) * same
    if not roots:
        modules = ", ".join(list(code.files)[:5])
        raise InvalidInput(
            f"commit {commit[:12]} of {shown(repository)} has none of the modules {modules}",
            field="--checkout",
            value=shown(repository),
            remedy=remedy,
        )
    return [root for root, _ in roots.most_common()]


def _digests(found: Mapping[str, Path]) -> dict[str, str]:
    return {name: hashlib.sha256(found[name].read_bytes()).hexdigest() for name in sorted(found)}


def _modules(paths: Iterable[str]) -> tuple[list[str], dict[str, Path]]:
    """Return the modules of functions, and the file of each module that counts."""
    first = list(dict.fromkeys(path.partition(":")[0] for path in paths))
    own = {name.partition(".")[0] for name in first} - {_LIBRARY}
    found: dict[str, Path] = {}
    unread = [parent for name in first for parent in _with_parents(name)]
    while unread:
        name = unread.pop()
        if name in found or (name.partition(".")[0] == _LIBRARY and name not in first):
            continue
        file = _file(name, own)
        if file is not None:
            found[name] = file
            unread += [parent for one in _imports(name, file) for parent in _with_parents(one)]
    return first, found


def _with_parents(name: str) -> list[str]:
    """Return a module and the packages that it lies in, whose code runs before its own."""
    parts = name.split(".")
    return [".".join(parts[:end]) for end in range(1, len(parts) + 1)]


def _file(name: str, own: set[str]) -> Path | None:
    """Return the file of a module; ``None`` for one that was released with a version, and for what is no module."""
    top = name.partition(".")[0]
    try:
        if top not in own and top != _LIBRARY and _released(importlib.util.find_spec(top)):
            return None
        spec = importlib.util.find_spec(name)
    except (ImportError, AttributeError, ValueError):
        return None
    origin = spec.origin if spec else None
    return Path(origin) if origin and origin.endswith(".py") else None


def _released(spec: importlib.machinery.ModuleSpec | None) -> bool:
    places = [spec.origin, *(spec.submodule_search_locations or [])] if spec else []
    return not places or any(str(place).startswith((*_RELEASED, "built-in", "frozen")) for place in places)


def _imports(name: str, file: Path) -> Iterator[str]:
    """Yield what a module imports, wherever in it; what is for type checkers alone is never run."""
    package = name if file.name == "__init__.py" else name.rpartition(".")[0]
    try:
        unread: list[ast.AST] = [ast.parse(file.read_bytes())]
    except (
        SyntaxError,
        ValueError,
    ):  # of another Python, or a template: whoever imports it gets no farther either
        return
    while unread:
        node = unread.pop()
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            unread += node.orelse
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                above = package.split(".")[: len(package.split(".")) - node.level + 1]
                base = ".".join([*above, *([base] if base else [])])
            yield base
            yield from (f"{base}.{alias.name}" for alias in node.names)
        unread += ast.iter_child_nodes(node)


def _commit(first: list[Path], files: Iterable[Path]) -> tuple[str | None, bool | None]:
    """Return the commit of a working copy, and whether the files of it have been changed since."""
    from airflow_pipeops.git.credentials import Credentials
    from airflow_pipeops.git.process import Git

    if not first:
        return None, None
    folder = str(first[0].parent)
    try:
        git = Git(folder, Credentials(), _PATIENCE)
        top = git.run("-C", folder, "rev-parse", "--show-toplevel", accept=(0, 128))
        head = git.run("-C", folder, "rev-parse", "HEAD", accept=(0, 128))
        if top.code or head.code:
            return None, None
        # Git tells the real folder, and what syncs a repository may show it by a link.
        inside = [str(file) for file in map(Path.resolve, files) if file.is_relative_to(top.text)]
        options = ("--porcelain", "--ignored", "--untracked-files=all")
        status = git.run("-C", folder, "status", *options, "--", *inside).text
    except PipeOpsError:  # no git, or a working copy that is not ours
        return None, None
    if any(line.startswith("!!") for line in status.splitlines()):
        return None, None  # what is installed within a working copy is none of its commits'
    return head.text, bool(status)
