"""From records to candidates: what changed, when it took effect, and what is known of it. Pure."""

from __future__ import annotations

import math
import re
import statistics
from bisect import bisect_left
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from itertools import pairwise
from typing import Any, Literal

from airflow_pipeops.base.documents import map_, text
from airflow_pipeops.delivery.queries.facts import Fact, moment
from airflow_pipeops.delivery.records import ILL, gate_passed
from airflow_pipeops.exceptions import InvalidInput
from airflow_pipeops.git.forges import commit_url
from airflow_pipeops.operations.changes.acts import acts
from airflow_pipeops.operations.changes.naming import kinds_of_change, told_of_change
from airflow_pipeops.operations.changes.scoring import quarter
from airflow_pipeops.operations.changes.settings import ChangeKind
from airflow_pipeops.operations.changes.suspects import Candidate, Earlier, Symptom
from airflow_pipeops.operations.changes.symptoms import hours_before

#: Records of these kinds are what a deployment brings.
_PARTS = ("commit", "image", "model", "prompt", "training")
#: Arrivals of data without which nobody knows when the next is due, and by how much it must be late.
_ARRIVALS, _LATE = 5, 1.25
#: The same of what has come meanwhile.
_CAME = 2.0
#: Hours around the onset in which an incident elsewhere counts as the same.
_TOGETHER = 24.0


#: Kind of change -> how it is told, and what of a record's source shows it, in words.
_RAN: Mapping[ChangeKind, tuple[str, Mapping[str, str]]] = {
    "library": (
        "other software runs",
        {"airflow": "Airflow", "python": "Python", "packages": "packages"},
    ),
    "code": ("other code of the DAG", {"dag_version": "version", "bundle_version": "bundle"}),
}


@dataclass(frozen=True)
class Ancestry:
    """What leads to the symptom.

    :param borders: deliverable -> borders between it and the symptom; the symptom's own has 0.
    :param above: ids of what the record of the symptom was made from; empty if nobody can tell.
    """

    borders: Mapping[str, int]
    above: frozenset[str] = frozenset()


@dataclass
class _Deployed:
    """What an environment has got of a deliverable so far.

    :param first: id of a part -> the deployment that brought it, in the order of time.
    :param facts: the deployments, the oldest first.
    """

    first: dict[str, Fact] = field(default_factory=dict)
    facts: list[Fact] = field(default_factory=list)


def candidates_of(
    facts: Iterable[Fact], symptom: Symptom, ancestry: Ancestry, *, whole: frozenset[str] = frozenset()
) -> tuple[Candidate, ...]:
    """Make candidates of what was recorded of the deliverables from which lineage leads to a symptom.

    One change goes through many records: a commit, its image, a change of the desired state, a release. It is one
    candidate, of the kind of what was new, and it took effect when the desired state named it.

    :param facts: of these deliverables, until the symptom was seen; only what is believed counts.
    :param symptom: what went wrong.
    :param ancestry: how far each deliverable is.
    :param whole: deliverables whose first deployment is among the facts; of others, nobody knows what the oldest brought.
    :return: the candidates, the newest first; those that are older than anything that can be the cause among them.
    """
    known = sorted((one for one in facts if not one.problem), key=lambda one: (one.at, one.seq))
    by_id = {one.id: one for one in known}
    graph = _Graph(by_id)
    names = sorted({one.deliverable for one in known} & set(ancestry.borders))
    found: list[Candidate] = []
    for name in names:
        mine = [one for one in known if one.deliverable == name]
        reader = _Reader(name, mine, graph, symptom, ancestry, name in whole)
        found += reader.deployed()
        found += reader.data()
        found += reader.acted()
        found += reader.probed()
        found += reader.run_by()
        found += reader.rest()
    return tuple(
        sorted(_against_the_earlier(found), key=lambda one: (one.at, one.id, one.kind), reverse=True)
    )


class _Graph:
    """The parents of records, as far as the records are there."""

    def __init__(self, by_id: Mapping[str, Fact]) -> None:
        self.by_id = by_id
        self._above: dict[str, frozenset[str]] = {}

    def above(self, start: str) -> frozenset[str]:
        """The ids of all that a record was made from, itself included."""
        if start not in self._above:
            met, ahead = {start}, [start]
            while ahead:
                fact = self.by_id.get(ahead.pop())
                for parent in fact.parents if fact else ():
                    if parent in self._above:
                        met |= self._above[parent]
                    elif parent not in met:
                        met.add(parent)
                        ahead.append(parent)
            self._above[start] = frozenset(met)
        return self._above[start]


class _Reader:
    """The records of one deliverable, the oldest first."""

    def __init__(
        self,
        name: str,
        facts: Sequence[Fact],
        graph: _Graph,
        symptom: Symptom,
        ancestry: Ancestry,
        whole: bool,
    ) -> None:
        self.name, self.facts, self.graph = name, facts, graph
        self.symptom, self.ancestry, self.whole = symptom, ancestry, whole
        self.border = ancestry.borders[name]
        self.places: dict[str, _Deployed] = defaultdict(_Deployed)
        for one in facts:
            if one.kind in ("change", "release") and one.environment and one.body.get("changed") is not False:
                place = self.places[one.environment]
                place.facts.append(one)
                for ident in sorted(graph.above(one.id)):
                    place.first.setdefault(ident, one)
        self.environments = self._environments()
        self.place = self._together()
        self.ill = {
            one.environment: one.at
            for one in facts
            if one.environment
            and (one.kind == "incident" or (one.kind == "release" and one.body.get("health") in ILL))
        }
        self.undone = self._undone()

    def _environments(self) -> frozenset[str]:
        """The symptom's own; where it has none, or this deliverable is not there: production, else what changed last."""
        if self.symptom.environment in self.places or (self.symptom.environment and not self.border):
            return frozenset({self.symptom.environment})
        live = [name for name in self.places if name.startswith("prod")]
        last = max(self.places, key=lambda name: (self.places[name].facts[-1].at, name), default="")
        return frozenset(live or [last])

    def _together(self) -> _Deployed:
        """What came to these environments, each part when it came to the first of them."""
        found = _Deployed()
        facts = [one for name in self.environments if name in self.places for one in self.places[name].facts]
        found.facts = sorted(facts, key=lambda one: (one.at, one.seq))
        for one in found.facts:
            for ident in sorted(self.graph.above(one.id)):
                found.first.setdefault(ident, one)
        return found

    @property
    def environment(self) -> str:
        """The one environment that is meant; empty for several."""
        return next(iter(self.environments)) if len(self.environments) == 1 else ""

    def _undone(self) -> dict[str, str]:
        """When commits of the desired state were taken back, by their SHA."""
        found: dict[str, str] = {}
        for one in self.facts:
            reverted = text(one.body.get("reverts"))
            if one.kind in ("change", "rollback") and reverted:
                found.setdefault(reverted, one.at)
        return found

    def deployed(self) -> Iterable[Candidate]:
        """What came to the environment by its deployments."""
        place = self.place
        brought: dict[str, list[Fact]] = defaultdict(list)
        for ident, by in place.first.items():
            part = self.graph.by_id.get(ident)
            if part is not None and part.kind in _PARTS and part.deliverable == self.name:
                brought[by.id].append(part)
        by_file: Counter[str] = Counter()
        back: Counter[str] = Counter()
        packages, bases = "", ""
        for number, by in enumerate(place.facts):
            file = text(by.body.get("file")) or by.environment
            undone = self.undone.get(text(by.body.get("commit"))) or self._release_undone(by)
            parts = sorted(brought[by.id], key=lambda one: (one.at, one.seq))
            history: dict[str, Any] = {"same": by_file[file], "taken_back": back[file], "undone": undone}
            if number or self.whole:
                for one in self._parts(parts, by, packages, bases):
                    yield replace(one, **history)
            packages = next(
                (text(p.body.get("packages_digest")) for p in parts if p.kind == "training"), packages
            )
            bases = next(
                (repr(p.body["bases"]) for p in parts if p.kind == "image" and p.body.get("bases")), bases
            )
            if by.kind != "change":
                continue
            for one in self._settings(by, self._vehicle(by)):
                yield replace(one, **history)
            by_file[file] += 1
            back[file] += bool(undone)

    def _vehicle(self, by: Fact) -> frozenset[str]:
        """The kinds of the parts that a change brought to its own environment; another one may have had them before."""
        first = self.places[by.environment].first
        above = [self.graph.by_id[ident] for ident in self.graph.above(by.id) if ident in self.graph.by_id]
        return frozenset(one.kind for one in above if one.kind in _PARTS and first[one.id] is by)

    def _release_undone(self, by: Fact) -> str:
        """Of a deployment without a commit of its own, whatever its release names."""
        return self.undone.get(text(by.body.get("revision")), "") if by.kind == "release" else ""

    def _parts(self, parts: Sequence[Fact], by: Fact, packages: str, bases: str) -> Iterable[Candidate]:
        commits = [one for one in parts if one.kind == "commit"]
        # A commit that a prompt was read from is that prompt, unless an image was built of it, too.
        prompts = {one.commit for one in parts if one.kind == "prompt"}
        prompts -= {parent for one in parts if one.kind == "image" for parent in self._commits(one)}
        for one in parts:
            if one.kind == "commit":
                size = one.body.get("lines")
                kind: ChangeKind = "prompt" if one.commit in prompts else "code"
                yield self._one(
                    one, kind, by.at, what=text(one.body.get("subject"), 80) or f"commit {one.commit[:8]}",
                    author=text(one.body.get("author")), size=float(size) if isinstance(size, int) else None,
                    digest=one.commit,
                )  # fmt: skip
            elif one.kind == "image":
                now = repr(one.body.get("bases") or "")
                if not commits or (bases and one.body.get("bases") and now != bases):
                    what = "another base image" if commits else "an image without a new commit"
                    yield self._one(one, "image", by.at, what=what, digest=text(one.body.get("digest")))
            elif one.kind == "model":
                version = f"{text(one.body.get('name')) or self.name} {one.body.get('version') or ''}".strip()
                judged = self._judged(one.id, {"evaluation", "drift"})
                yield self._one(
                    one, "model", by.at, what=version, digest=text(one.body.get("sha256")),
                    judged="ill" if judged == "ill" else "",
                )  # fmt: skip
            elif one.kind == "prompt":
                if one.commit not in {commit.commit for commit in commits}:
                    what = text(one.body.get("name")) or self.name
                    yield self._one(one, "prompt", by.at, what=what, digest=text(one.body.get("sha256")))
            elif packages and text(one.body.get("packages_digest")) not in ("", packages):
                yield self._one(one, "library", by.at, what="trained with other packages")

    def _commits(self, part: Fact) -> Iterable[str]:
        above = (self.graph.by_id.get(ident) for ident in self.graph.above(part.id))
        return (one.commit for one in above if one is not None and one.kind == "commit")

    def _settings(self, by: Fact, brought: frozenset[str]) -> Iterable[Candidate]:
        """What a change of the desired state set, beside the version that it brought."""
        if by.body.get("reverts"):
            what = f"reverts {text(by.body.get('reverts'), 8)}: {text(by.body.get('reason'), 60)}"
            yield self._one(by, "rollback", by.at, what=what.rstrip(": "))
            return
        kinds = kinds_of_change(by.body)
        given = bool(map_(by.body.get("set"))) or text(by.body.get("subject")) in kinds
        for kind, paths in kinds.items():
            if brought and (not given or kind in ("image", "model") or kind in brought):
                continue
            what, before = told_of_change(by.body, paths)
            what = what or f"desired state {text(by.body.get('commit'), 8) or by.id[:8]}"
            yield self._one(
                by, kind, _effective(by), what=what, size=float(len(paths)) if paths and given else None,
                author=text(by.body.get("author")), digest=repr(sorted(paths)) + what, before=before,
            )  # fmt: skip

    def data(self) -> Iterable[Candidate]:
        """The batches that came, and the one that did not."""
        batches = [one for one in self.facts if one.kind == "batch"]
        ids = {one.id for one in batches}
        batches += [one for one in self.facts if one.kind == "dataset" and not ids.intersection(one.parents)]
        batches.sort(key=lambda one: (one.at, one.seq))
        rows: list[float] = []
        columns: int | None = None
        usual: int | None = None  # before the last change
        seen: set[str] = set()
        for one in batches:
            count, wide, digest = one.body.get("rows"), one.body.get("columns"), text(one.body.get("digest"))
            kind: ChangeKind = "data"
            what = f"batch {text(one.body.get('batch'), 60)}".strip()
            if isinstance(wide, int) and columns is not None and wide != columns:
                what = f"{what}: {wide} columns, {columns} before"
                # What comes back to the columns that were usual ends a change of schema, and is none.
                kind, usual = ("data", None) if wide == usual else ("schema", columns)
            size = None
            if isinstance(count, int) and count >= 0:
                if rows:
                    size = abs(math.log((count + 1) / (statistics.median(rows[-50:]) + 1)))
                rows.append(count)
            if isinstance(wide, int):
                columns = wide
            if digest and digest in seen:
                continue  # the same data as before
            seen.add(digest)
            yield self._one(
                one, kind, one.at, what=what, size=size, digest=digest,
                judged=self._judged(one.id, {"validation", "drift"}, text(one.body.get("batch"))),
            )  # fmt: skip
        yield from self._late(batches)

    def _late(self, batches: Sequence[Fact]) -> Iterable[Candidate]:
        times = [datetime.fromisoformat(one.at) for one in batches]
        gaps = [(b - a).total_seconds() / 3600 for a, b in pairwise(times)]
        if len(gaps) < _ARRIVALS:
            return
        usual = statistics.median(gaps)
        most = max(_LATE * usual, 1.1 * sorted(gaps)[int(0.9 * len(gaps))])
        end = datetime.fromisoformat(self.symptom.end)
        waited = [*gaps[1:], (end - times[-1]).total_seconds() / 3600]
        for number, (last, gap, arrived) in enumerate(
            zip(batches[1:], waited, [*batches[2:], None], strict=True)
        ):
            if usual > 0 and gap > (most if arrived is None else max(most, _CAME * usual)):
                due = datetime.fromisoformat(last.at) + timedelta(hours=usual)
                yield self._one(
                    last, "late data", due.isoformat(), size=gap / usual, undone=arrived.at if arrived else "",
                    pace=usual, earlier=Earlier(tuple(other / usual for other in gaps[: number + 1])),
                    what=f"no batch after {text(last.body.get('batch'), 60) or last.id[:8]} for {gap:.0f} h;"
                    f" {usual:.0f} h are usual",
                )  # fmt: skip

    def acted(self) -> Iterable[Candidate]:
        """What a tuner or a remediation changed here."""
        for act in acts(self.facts):
            if not act.by.environment or self.environments & {act.by.environment, ""}:
                yield self._one(
                    act.by, act.kind, act.by.at, what=act.what, size=act.size, digest=act.thing, before=act.before,
                    undone=_time(act.undone),
                )  # fmt: skip

    def probed(self) -> Iterable[Candidate]:
        """Models behind an endpoint that have changed, by the first probe that found it since one found them unchanged."""
        changed: dict[str, bool] = {}
        for one in self.facts:
            drifted, model = one.body.get("drifted"), text(one.body.get("batch"), 60)
            if one.kind != "drift" or one.body.get("subject") != "provider":
                continue
            if drifted is True and not changed.get(model):
                what = f"{model or 'the model'} behind the endpoint answers otherwise: {text(one.body.get('reason'), 100)}"
                yield self._one(one, "provider", one.at, what=what.rstrip(": "), digest=f"provider {model}")
            if drifted is not None or one.body.get("verdict") == "pinned":
                changed[model] = drifted is True

    def run_by(self) -> Iterable[Candidate]:
        """Other versions of Airflow, of what is installed or of the DAG's own code than ran the same task before."""
        before: dict[tuple[str, str], Fact] = {}
        met: set[tuple[str, ...]] = set()
        for one in self.facts:
            if not one.versions:
                continue
            last = before.get((one.dag, one.task))
            before[one.dag, one.task] = one
            for kind, (says, parts) in _RAN.items():
                was, now = (last.versions if last else {}), one.versions
                changed = [part for part in parts if was.get(part) and now.get(part, was[part]) != was[part]]
                # Of another DAG, or of another worker that has been seen before, it is the same change.
                same = (kind, one.dag * (kind == "code"), *(now[part] for part in changed))
                if last is None or not changed or same in met:
                    continue
                met.add(same)
                # What went wrong itself is no candidate, though it may be the first that was run so.
                shown = last if one.id == self.symptom.record else one
                said = ", ".join(f"{parts[part]} {now[part][:12]}" for part in changed)
                yield self._one(
                    shown, kind, one.at, what=f"{says} {one.dag}: {said}", digest=" ".join(same),
                    before=", ".join(f"{parts[part]} {was[part][:12]}" for part in changed),
                )  # fmt: skip

    def rest(self) -> Iterable[Candidate]:
        """What needs no deployment: commits and models of what has no environment, and what was changed by hand."""
        loose = {"commit"} if not self.places else set()
        carried = [self.graph.by_id.get(ident) for place in self.places.values() for ident in place.first]
        if not any(one is not None and one.kind == "model" for one in carried):
            loose.add("model")
        by_a_change = {parent for one in self.facts if one.kind == "change" for parent in one.parents}
        for one in self.facts:
            if one.kind in loose:
                yield from self._parts([one], one, "", "")
            elif one.kind == "differences" and text(one.body.get("verdict")) not in ("", "clean"):
                what = text(one.body.get("reason"), 80) or "live state is not what Git says"
                yield self._one(one, "config", one.at, what=f"by hand: {what}")
            elif (
                one.kind == "rollback" and one.environment in self.environments and one.id not in by_a_change
            ):
                yield self._one(one, "rollback", one.at, what=text(one.body.get("reason"), 80))

    def _judged(self, ident: str, kinds: set[str], batch: str = "") -> Literal["", "well", "ill"]:
        """What was said of a record, before the symptom and not by it."""
        said: Literal["", "well", "ill"] = ""
        for one in self.facts:
            if one.kind not in kinds or one.id == self.symptom.record:
                continue
            named = bool(batch) and one.body.get("batch") == batch
            if not named and ident not in self.graph.above(one.id):
                continue
            if one.kind == "drift":
                verdict = one.body.get("drifted")
            elif one.body.get("worse") is not None:
                verdict = one.body["worse"]
            else:
                passed = gate_passed(one.body)
                verdict = None if passed is None else not passed
            if verdict is True:
                return "ill"
            said = "well" if verdict is False else said
        return said

    def _one(self, fact: Fact, kind: ChangeKind, at: str, **more: Any) -> Candidate:
        distance = self.border
        if kind in ("data", "schema") and fact.kind in ("batch", "dataset"):
            # Data that the symptom was not made from is off its way.
            distance += bool(self.ancestry.above) and fact.id not in self.ancestry.above
        return Candidate(
            id=fact.id, kind=kind, at=at, deliverable=self.name,
            environment=self.environment if fact.kind in _PARTS else fact.environment,
            distance=distance, link=_link(fact),
            elsewhere=self._elsewhere(fact, at), coverage=self._coverage(fact), **more,
        )  # fmt: skip

    def _elsewhere(self, fact: Fact, at: str) -> float:
        """For how many hours the same part was live elsewhere before the onset, without an incident there."""
        most = 0.0
        for name, place in self.places.items():
            by = place.first.get(fact.id)
            if (
                fact.kind not in _PARTS
                or by is None
                or name in self.environments
                or by.at >= self.symptom.end
            ):
                continue
            if by.at <= self.ill.get(name, ""):
                continue
            live = datetime.fromisoformat(self.symptom.end) - datetime.fromisoformat(by.at)
            most = max(most, live.total_seconds() / 3600)
        return most

    def _coverage(self, fact: Fact) -> float | None:
        """The share of the affected peers that carry a part, less that of the others; peers begin with the same word."""
        word = self.environment.partition("-")[0]
        peers = [name for name in self.places if name.partition("-")[0] == word]
        since = hours_before(self.symptom.end, _TOGETHER)
        affected = {self.environment} | {name for name in peers if self.ill.get(name, "") >= since}
        others = set(peers) - affected
        if fact.kind not in (*_PARTS, "change") or not others or self.environment not in self.places:
            return None
        carry = {name for name in peers if fact.id in self.places[name].first}
        return len(carry & affected) / len(affected) - len(carry & others) / len(others)


def _against_the_earlier(found: Sequence[Candidate]) -> Iterable[Candidate]:
    """Give each the earlier ones of its deliverable and kind, and what became of the same thing."""
    groups: dict[tuple[str, str], list[Candidate]] = defaultdict(list)
    for one in found:
        groups[one.deliverable, one.kind].append(one)
    kinds = _kinds_before(found)
    for group in groups.values():
        group.sort(key=lambda one: (one.at, one.id))
        times = [one.at for one in group]
        for one in group:
            before = group[: bisect_left(times, one.at)]
            same = [other for other in before if one.digest and other.digest == one.digest]
            sizes = one.earlier.sizes or tuple(other.size for other in before if other.size is not None)
            yield replace(
                one,
                same=one.same + len(same),
                taken_back=one.taken_back + sum(bool(other.undone) for other in same),
                earlier=Earlier(
                    sizes,
                    dict(Counter(other.author for other in before if other.author)),
                    dict(Counter(str(quarter(other.at)) for other in before)),
                    kinds.get((one.deliverable, one.at), {}) if one.kind != "data" else {},
                ),
            )


def _kinds_before(found: Iterable[Candidate]) -> dict[tuple[str, str], dict[str, int]]:
    """Deliverable and time -> how many changes of each kind it had had before."""
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    told: dict[tuple[str, str], dict[str, int]] = {}
    for one in sorted(found, key=lambda one: one.at):
        if one.kind != "data":
            told.setdefault((one.deliverable, one.at), dict(counts[one.deliverable]))
            counts[one.deliverable][one.kind] += 1
    return told


def _link(fact: Fact) -> str:
    """The address that a record names, if a browser opens it and a terminal shows it as it is; else its commit's page."""
    named = text(fact.body.get("url"))
    if re.fullmatch(r"https?://[!-~]{1,490}", named):
        return named
    return commit_url(text(fact.body.get("repository")), text(fact.body.get("commit")) or fact.commit)


def _effective(fact: Fact) -> str:
    """When a change takes effect: as a certificate does when it expires."""
    return _time(text(fact.body.get("effective"))) or fact.at


def _time(said: str) -> str:
    """A time that a record says; empty where it is none."""
    try:
        return moment(said) if said else ""
    except InvalidInput:
        return ""
