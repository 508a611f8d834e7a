"""Read knobs where they lie: all of a file for the tuner, or one value for whoever decides by it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from airflow_pipeops.exceptions import InvalidInput
from airflow_pipeops.operations.tuning.knob import Knob

#: More knobs do not fit into one record.
MOST: Final = 5


def knobs_in(content: bytes | str, file: str) -> list[Knob]:
    """Read the knobs of a file.

    :param content: YAML or JSON with a list ``knobs``.
    :param file: its name, for errors.
    :return: the knobs, in the order of the file.
    :raises InvalidInput: if there is none, too many, two of one name, or one that makes no sense.
    """
    import yaml

    try:
        found = yaml.safe_load(content)  # JSON is YAML
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError) as error:
        raise InvalidInput(
            f"{file} is no YAML: {' '.join(str(error).split())[:200]}", field="file", value=file
        ) from error
    entries = found.get("knobs") if isinstance(found, Mapping) else None
    if not isinstance(entries, list) or not 1 <= len(entries) <= MOST:
        raise InvalidInput(f"{file} has no list knobs of 1 to {MOST} entries", field="file", value=file)
    knobs = [Knob.from_json(entry) for entry in entries]
    names = [knob.name for knob in knobs]
    if len(set(names)) < len(names):
        raise InvalidInput(f"two knobs of {file} have one name", field="knobs", value=names)
    return knobs


def value_in(content: bytes | str, name: str, file: str = "the file") -> float:
    """Read the value of a knob, which is within its bounds.

    :param content: YAML or JSON with a list ``knobs``.
    :param name: of the knob.
    :param file: its name, for errors.
    :return: the value.
    :raises InvalidInput: if there is no such knob, or the file's knobs make no sense.
    """
    knobs = knobs_in(content, file)
    for one in knobs:
        if one.name == name:
            return one.value
    raise InvalidInput(
        f"{file} has no knob {name!r}",
        field="name",
        value=name,
        remedy=f"Use one of {', '.join(one.name for one in knobs)}.",
    )


def knob(name: str, file: str, *, git_conn_id: str = "pipeops_gitops_repo", revision: str = "") -> float:
    """Read the value of a knob from Git, as a task needs it: by it, the tuner's moves take effect.

    :param name: of the knob.
    :param file: path of the YAML or JSON file in the repository.
    :param git_conn_id: connection of the repository.
    :param revision: a commit, branch or tag; by default the tip of the branch.
    :return: the value.
    :raises InvalidInput: if there is no such knob, or the file's knobs make no sense.
    """
    from airflow_pipeops.git.hook import GitHook

    repository = GitHook(git_conn_id).get_conn()
    commit = repository.resolve(revision) if revision else repository.fetch()
    return value_in(repository.read(file, commit), name, file)
