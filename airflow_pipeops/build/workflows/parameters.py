"""What a build or a test run is told by, as parameters of the templates that the chart ships. Pure.

The pod is composed as for a Job in a cluster (:mod:`airflow_pipeops.build.cluster.pods`), and of it is sent what differs
from one act to the next: variables and arguments. Images of builders, secrets, limits and nodes stand in the template, where
those who run the cluster put them; whoever writes a DAG chooses none of them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from airflow_pipeops.build.cluster.pods import MAIN, MOST, REPORTS_FOLDER, SOURCE, WORK
from airflow_pipeops.build.cluster.scripts import line
from airflow_pipeops.exceptions import InvalidInput

#: What the templates of the chart are called, and that of the tests that fetches the source before.
BUILD_TEMPLATE, TEST_TEMPLATE, WITH_SOURCE = "pipeops-build", "pipeops-test", "with-source"
#: The output parameter that holds the container's last word, and the file that it is read from.
ANSWER = "answer"
BUILD_ANSWER, TEST_ANSWER = f"{WORK}/answer", f"{REPORTS_FOLDER}/answer"
#: Characters of reports that are handed over: a workflow is one object of at most 1 MiB or so, with everything in it.
ROOM = 400_000
#: Linux gives one variable no more than 128 KiB.
_MOST_TEXT = 120 * 1024
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


def for_build(pod: Mapping[str, Any], seconds: float) -> dict[str, str]:
    """Return the parameters of a build.

    :param pod: as it is composed for a cluster.
    :param seconds: for the build.
    :return: values by name.
    """
    main = _container(pod, MAIN)
    # The first of its command are the shell, its script, and the name that the shell is given.
    words = [_given(word) for word in main["command"][4:]]
    return {
        **_source(pod),
        "environment": _environment({**_variables(main), "PIPEOPS_LAST_WORD": BUILD_ANSWER}),
        "arguments": _lines(words, "build_args"),
        "timeout": str(int(seconds)),
    }


def for_tests(pod: Mapping[str, Any], seconds: float) -> dict[str, str]:
    """Return the parameters of a test run.

    :param pod: as it is composed for a cluster.
    :param seconds: for the run.
    :return: values by name.
    """
    main = _container(pod, MAIN)
    given = {
        **_variables(main),
        "PIPEOPS_FOLDER": main.get("workingDir", ""),
        "PIPEOPS_LAST_WORD": TEST_ANSWER,
        "PIPEOPS_REPORTS": REPORTS_FOLDER,
        "PIPEOPS_MOST": str(MOST),
        "PIPEOPS_ROOM": str(ROOM),
    }
    return {
        **_source(pod),
        "image": _image(main["image"]),
        "environment": _environment(given),
        "arguments": _lines([_given(word) for word in main["command"]], "command"),
        "timeout": str(int(seconds)),
    }


def _source(pod: Mapping[str, Any]) -> dict[str, str]:
    found = [one for one in pod["spec"]["initContainers"] if one["name"] == SOURCE]
    return {"source": _environment(_variables(found[0]))} if found else {}


def _container(pod: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    found: Mapping[str, Any] = next(one for one in pod["spec"]["containers"] if one["name"] == name)
    return found


def _variables(container: Mapping[str, Any]) -> dict[str, str]:
    return {one["name"]: _given(one["value"]) for one in container["env"]}


def _given(text: str) -> str:
    """Return a text as it was before it was written for Kubernetes."""
    return text.replace("$$", "$")


def _environment(values: Mapping[str, str]) -> str:
    for name in values:
        if not _VARIABLE.fullmatch(name):
            raise InvalidInput(
                f"{name!r} is no name of a variable that a shell knows",
                field="env",
                value=name,
                remedy="Use letters, digits and _, and no digit first.",
            )
    return _lines([f"{name}={value}" for name, value in values.items()], "file")


def _lines(texts: list[str], field: str) -> str:
    found = "\n".join(map(line, texts))
    if len(found.encode()) > _MOST_TEXT:
        raise InvalidInput(
            f"what the workflow is to be told takes {len(found.encode()):,} bytes, and {_MOST_TEXT:,} can be told",
            field=field,
            remedy="Move what is long into files of the repository.",
        )
    return found


def _image(image: str) -> str:
    if re.search(r"[\s{}$]", image):
        raise InvalidInput(
            f"image {image!r} is not a valid name",
            field="image",
            value=image,
            remedy="Pass the reference that BuildImageOperator returned.",
        )
    return image
