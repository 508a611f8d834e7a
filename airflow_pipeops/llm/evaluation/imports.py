"""Results of other tools, read from their files into the same table. Pure: text in, rows out.

Items are told by what they are and never by their place: a repeated sample gets a place of its own in those files, and one
item more would shift all others.
"""

from __future__ import annotations

import hashlib
import math
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any

from airflow_pipeops.base.arguments import has_columns
from airflow_pipeops.base.documents import map_, maps, number, parsed, text
from airflow_pipeops.exceptions import InvalidInput
from airflow_pipeops.llm.datasets.dataset import digest
from airflow_pipeops.llm.evaluation.pace import count
from airflow_pipeops.llm.prompts.template import written

if TYPE_CHECKING:
    import pandas as pd

#: Bytes of a file that is read.
MOST = 256 * 1024**2

#: From this version on, promptfoo's cache has an answer of its own for each repetition.
_SAMPLES = (0, 122)

Row = dict[str, Any]

#: What DeepEval says of a case, whatever was answered.
_ASKED = (
    "input",
    "expectedOutput",
    "expected_output",
    "scenario",
    "expectedOutcome",
    "expected_outcome",
    "context",
)
#: Assertions of promptfoo that are the opinion of a model.
_OPINION = re.compile(
    r"(not-)?([a-z]+-rubric|model-graded-.*|factuality|g-eval|(answer|conversation)-relevance|context-.*|select-best|pi)"
)


@dataclass(frozen=True)
class Imported:
    """What a file of another tool says.

    :param rows: of the table.
    :param asks: item -> what it asks and how it is judged, as digests.
    :param arms: arm -> digest of what answered, where the file says it.
    :param judges: scorers that are the opinion of a model -> its names, as far as the file says them.
    :param version: of the tool; empty where the file does not say it.
    """

    rows: list[Row]
    asks: Mapping[str, Sequence[str]]
    arms: Mapping[str, str] = field(default_factory=dict)
    judges: Mapping[str, Sequence[str]] = field(default_factory=dict)
    version: str = ""

    def facts(self, source: str, file: str, subject: str = "") -> dict[str, Any]:
        """Return what a gate holds against each other, as an evaluation that was asked here says it.

        :param source: the tool.
        :param file: digest of the file; what answered is told by it, where nothing else tells it.
        :param subject: digest of what answered, if somebody knows it.
        :return: ``dataset_sha256``, ``arms``, ``scorers``, ``judges``, ``runs`` and more.
        :raises InvalidInput: for a subject, if there are several arms.
        """
        arms = sorted({row["arm"] for row in self.rows})
        if subject and len(arms) > 1:
            raise InvalidInput(
                f"one subject is given, and the file has the arms {', '.join(arms[:5])}",
                field="subject",
                value=subject,
                remedy="Leave it out, or import a file for each.",
            )
        scorers = sorted({row["scorer"] for row in self.rows})

        def said(name: str) -> Any:
            judges = sorted(self.judges.get(name, ()))
            return {"source": source, "version": self.version, "metric": name, "judges": judges}

        unknown = {arm: digest({"file": file, "arm": arm}, "file", "an arm") for arm in arms}
        return {
            "dataset_sha256": digest(
                {name: sorted(one) for name, one in self.asks.items()}, "file", "the items"
            ),
            "arms": {arm: subject or self.arms.get(arm) or unknown[arm] for arm in arms},
            "models": {},
            "scorers": {name: digest(said(name), "file", "a scorer") for name in scorers},
            "judges": sorted(self.judges),
            "runs": 1 + max(row["run"] for row in self.rows),
            "flips": {},
            "shard": 0,
            "shards": 1,
        }


def of_promptfoo(content: bytes, arm: str = "") -> Imported:
    """Read what ``promptfoo eval --output results.json`` has written.

    An item is its variables, or ``metadata.id`` of its test; an arm is a provider, and its prompt where there are several;
    scorers are ``score``, ``passed``, and each named metric, which an item has only where its test names it. What the
    provider or a grader failed at is missing.

    :param content: of the file.
    :param arm: name of the only arm; by default as above.
    :return: what it says.
    :raises InvalidInput: for another file, and for repeated samples that came from the cache of a promptfoo that had one
        answer for all of them.
    """
    found = _json(content, "promptfoo")
    inner = found.get("results")
    given = maps(map_(inner).get("results")) if isinstance(inner, Mapping) else maps(inner)
    if not given:
        raise _foreign("promptfoo", "results.results")
    prompts = {
        text(map_(one.get("prompt")).get("label")) or text(map_(one.get("prompt")).get("raw"))
        for one in given
    }
    samples = _version(map_(found.get("metadata")).get("promptfooVersion")) >= _SAMPLES
    counted: Counter[tuple[str, str]] = Counter()
    rows: list[Row] = []
    due: dict[str, dict[str, None]] = {}
    asks: dict[str, set[str]] = {}
    arms: dict[str, str] = {}
    judges: dict[str, set[str]] = {}
    at = _when(map_(inner).get("timestamp"))
    for one in given:
        test, response = map_(one.get("testCase")), map_(one.get("response"))
        values = one.get("vars") or test.get("vars")
        item = _identity(map_(test.get("metadata")).get("id"), values, test.get("description"))
        named = arm or _arm(one, len(prompts) > 1)
        run = counted[item, named]
        counted[item, named] += 1
        due.setdefault(item, {}).update(dict.fromkeys(_metrics(test.get("assert"))))
        asked = {"vars": values, "assert": test.get("assert")}
        asks.setdefault(item, set()).add(digest(asked, "file", f"item {item!r}"))
        arms[named] = _answering(one, map_(found.get("config")).get("providers"))
        for name in _metrics(test.get("assert"), _OPINION):
            for scorer in (name, "score", "passed"):
                judges.setdefault(scorer, set())
        if run and response.get("cached") is True and not samples:
            raise InvalidInput(
                f"promptfoo answered a repetition of item {item!r} from its cache: it is no further sample",
                field="file",
                value=item,
                remedy="Run promptfoo with --no-cache.",
            )
        failed = "the provider failed" if one.get("failureReason") == 2 or response.get("error") else ""
        parts = maps(map_(one.get("gradingResult")).get("componentResults"))
        if not failed and any(map_(part.get("metadata")).get("graderError") for part in parts):
            failed = "a grader failed"
        usage = map_(response.get("tokenUsage"))
        shared = {
            "item": item,
            "arm": named,
            "run": run,
            # Where the price is not known, promptfoo says 0, and the answer says nothing.
            "cost": number(one.get("cost")) or number(response.get("cost")),
            "tokens_in": count(usage.get("prompt")),
            "tokens_out": count(usage.get("completion")),
            "latency": _seconds(one.get("latencyMs")),
            "output_digest": _output(response.get("output")),
            "at": None if response.get("cached") is True else at,
        }
        scores = {"score": one.get("score"), "passed": one.get("success"), **map_(one.get("namedScores"))}
        rows += [_score(shared, name, value, failed) for name, value in scores.items()]
    version = text(map_(found.get("metadata")).get("promptfooVersion"), 40)
    return Imported(_complete(rows, due=due), _sorted(asks), arms, _sorted(judges), version)


def of_deepeval(content: bytes, arm: str = "candidate") -> Imported:
    """Read a test run of DeepEval, as it keeps it in its results folder.

    An item is its ``metadata.id``, or its input, or a conversation's scenario; each metric is a scorer. A metric that failed
    is missing; its threshold counts for nothing here.

    :param content: of the file.
    :param arm: that was tested.
    :return: what it says.
    :raises InvalidInput: for another file.
    """
    found = _json(content, "DeepEval")
    found = map_(found.get("testRunData")) or found
    given = [
        one
        for part in ("testCases", "conversationalTestCases", "test_results")
        for one in maps(found.get(part))
    ]
    if not given:
        raise _foreign("DeepEval", "testCases")
    counted: Counter[str] = Counter()
    rows: list[Row] = []
    answers: list[Row] = []
    asks: dict[str, set[str]] = {}
    judges: dict[str, set[str]] = {}
    for one in given:
        metadata = map_(one.get("additionalMetadata") or one.get("metadata"))
        item = _identity(
            metadata.get("id"), one.get("input") or one.get("scenario"), _chosen(one.get("name"))
        )
        shared = {
            "item": item,
            "arm": arm,
            "run": counted[item],
            "cost": number(one.get("tokenCost") or one.get("token_cost")),
            "latency": number(one.get("completionTime") or one.get("completion_time")),
            "output_digest": _output(one.get("actualOutput", one.get("actual_output"))),
        }
        counted[item] += 1
        answers.append(shared)
        asked = [one.get(name) for name in _ASKED]
        asks.setdefault(item, set()).add(digest(asked, "file", f"item {item!r}"))
        for metric in maps(one.get("metricsData") or one.get("metrics_data")):
            failed = "the metric failed" if metric.get("error") else ""
            rows.append(_score(shared, text(metric.get("name")) or "metric", metric.get("score"), failed))
            if model := text(metric.get("evaluationModel") or metric.get("evaluation_model")):
                judges.setdefault(rows[-1]["scorer"], set()).add(model)
    names = dict.fromkeys(row["scorer"] for row in rows)  # the metrics of a run are for all of its cases
    rows = _complete(rows, answers, dict.fromkeys(counted, names))
    return Imported(rows, _sorted(asks), judges=_sorted(judges))


def of_frame(
    frame: pd.DataFrame,
    scores: Sequence[str],
    *,
    item: Sequence[str],
    arm: str = "candidate",
    cluster: str = "",
) -> Imported:
    """Read a table with a row for each answer, such as Evidently's dataset with its descriptors.

    :param frame: the rows.
    :param scores: columns that are scores: numbers and truth values are values, texts are labels without a value.
    :param item: columns that say which item it is.
    :param arm: that answered; or the name of a column that says so.
    :param cluster: column of the clusters; empty for none.
    :return: what it says.
    :raises InvalidInput: for a column that is not there.
    """
    has_columns("table", frame.columns, [*item, *scores, *([cluster] if cluster else [])])
    counted: Counter[tuple[str, str]] = Counter()
    rows: list[Row] = []
    asks: dict[str, set[str]] = {}
    for one in frame.to_dict("records"):
        key = {name: _plain(one[name]) for name in item}
        named = str(one[arm]) if arm in frame.columns else arm
        identity = _identity(key[item[0]] if len(item) == 1 else None, key, None)
        shared = {"item": identity, "arm": named, "run": counted[identity, named]}
        asks.setdefault(identity, set()).add(digest({"asks": key}, "file", "an item"))
        counted[identity, named] += 1
        if cluster and _plain(one[cluster]) is not None:
            shared["cluster"] = str(one[cluster])
        for name in scores:
            value = _plain(one[name])
            if isinstance(value, str):
                rows.append(
                    {**shared, "scorer": _name(name), "label": value[:200], "error": "a label, and no value"}
                )
            else:
                rows.append(_score(shared, name, value, ""))
    return Imported(_complete(rows), _sorted(asks))


#: Format -> what reads its file.
READERS: Mapping[str, Callable[..., Imported]] = {"promptfoo": of_promptfoo, "deepeval": of_deepeval}


def _json(content: bytes, tool: str) -> Mapping[str, Any]:
    try:
        found = parsed(content, MOST)
    except ValueError as error:
        raise InvalidInput(
            f"the results of {tool} are no JSON ({len(content):,} bytes)",
            field="file",
            remedy="Write them again.",
        ) from error
    return {"results": found} if isinstance(found, list) else map_(found)


def _foreign(tool: str, where: str) -> InvalidInput:
    return InvalidInput(
        f"the file has no results of {tool}: nothing is at {where}",
        field="file",
        value=where,
        remedy="Is it the file of that tool, and was anything evaluated?",
    )


def _version(said: Any) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", text(said, 40))[:2])


def _metrics(given: Any, kinds: re.Pattern[str] | None = None) -> list[str]:
    """Return the metrics that a test names, in sets of assertions, too; of all kinds, or of some, and then "score", too."""
    found: list[str] = []
    for one in maps(given):
        if kinds is None or kinds.fullmatch(text(one.get("type"))):
            named = [_name(one["metric"])] if text(one.get("metric")) else []
            found += named or ([] if kinds is None else ["score"])
        found += _metrics(one.get("assert"), kinds)
    return found


def _answering(one: Mapping[str, Any], providers: Any) -> str:
    """Name what answered, as far as promptfoo says it: provider, its settings, and the prompt before it is filled in."""
    provider, prompt = one.get("provider"), map_(one.get("prompt"))
    named = {"id": provider} if isinstance(provider, str) else map_(provider)
    label = text(named.get("label"))
    settings = [
        each.get("config")
        for each in maps(providers)
        if each.get("id") == named.get("id") and label in ("", text(each.get("label")), text(each.get("id")))
    ]
    said = [
        text(named.get("id")),
        label,
        settings,
        one.get("promptId") or text(prompt.get("label")),
        prompt.get("config"),
    ]
    return digest(said, "file", "what answered")


def _when(said: Any) -> float | None:
    try:
        return datetime.fromisoformat(text(said, 40).replace("Z", "+00:00")).timestamp()
    except ValueError:
        return None


def _sorted(given: Mapping[str, set[str]]) -> dict[str, list[str]]:
    return {name: sorted(one) for name, one in given.items()}


def _chosen(name: Any) -> Any:
    """Return a name that somebody gave; DeepEval's own ones are places."""
    return None if re.fullmatch(r"(?:conversational_)?test_case_\d+", text(name)) else name


def _identity(given: Any, values: Any, name: Any) -> str:
    """Name an item by its own id, by what it asks, or by its name; what it asks may be personal, so it becomes a digest."""
    if isinstance(given, (str, int)) and not isinstance(given, bool) and given != "":
        return str(given)
    if values not in (None, "", {}, []):
        return digest({"asks": values}, "file", "an item")[:32]
    if isinstance(name, str) and name:
        return name[:200]
    raise InvalidInput(
        "a result names no item", field="file", remedy="Give each test variables, or metadata with an id."
    )


def _arm(one: Mapping[str, Any], several: bool) -> str:
    provider, prompt = one.get("provider"), map_(one.get("prompt"))
    said = (
        provider
        if isinstance(provider, str)
        else text(map_(provider).get("label")) or text(map_(provider).get("id"))
    )
    label = text(prompt.get("label")) or text(prompt.get("raw"))
    if several:
        said = f"{said} {label if len(label) < 40 else hashlib.sha256(label.encode()).hexdigest()[:8]}"
    return _name(said or "candidate")


def _name(said: Any) -> str:
    return re.sub(r"[^\w.-]+", "-", str(said)).strip("-")[:64] or "score"


def _score(shared: Row, name: str, value: Any, failed: str) -> Row:
    found = float(value) if isinstance(value, bool) else number(value)
    error = failed or ("" if found is not None else "there is no score")
    return {**shared, "scorer": _name(name), "value": None if failed else found, "error": error or None}


def _seconds(value: Any) -> float | None:
    found = number(value)
    return None if found is None else found / 1000


def _plain(value: Any) -> Any:
    value = value.item() if hasattr(value, "item") else value
    return None if isinstance(value, float) and math.isnan(value) else value


def _output(value: Any) -> str | None:
    return None if value is None else hashlib.sha256(written(value).encode()).hexdigest()


def _complete(
    rows: list[Row], answers: Sequence[Row] = (), due: Mapping[str, Mapping[str, None]] | None = None
) -> list[Row]:
    """Add the scores that an answer should have and lacks: what was not scored is missing, and seen to be so.

    :param rows: that there are.
    :param answers: what was answered, whether it was scored or not.
    :param due: item -> scorers that it should have, beside those that any answer to it has.
    """
    if not rows:
        raise InvalidInput(
            "the file has no scores", field="file", remedy="Was any assertion or metric evaluated?"
        )
    wanted = {item: dict(names) for item, names in (due or {}).items()}
    for row in rows:
        wanted.setdefault(row["item"], {})[row["scorer"]] = None
    there = {(row["item"], row["arm"], row["run"], row["scorer"]) for row in rows}
    known: dict[tuple[Any, ...], Row] = {}
    for row in (*rows, *answers):
        known.setdefault((row["item"], row["arm"], row["run"]), row)
    absent = [
        {**row, "scorer": name, "value": None, "label": None, "error": "there is no score"}
        for key, row in known.items()
        for name in wanted[row["item"]]
        if (*key, name) not in there
    ]
    return [{"hard": False, **row} for row in rows + absent]
