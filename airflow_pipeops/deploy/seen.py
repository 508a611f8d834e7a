"""What readiness is judged from, and what it says: an object as the cluster tells it, what was applied, and the answer."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from airflow_pipeops.base.documents import map_, maps, text, whole
from airflow_pipeops.base.serialisation import JsonForm

State = Literal["ready", "waiting", "failed", "unknown"]
#: Kinds of which a server counts no generation, and whose content is what was applied.
_DATA = frozenset({"ConfigMap", "Secret"})


@dataclass(frozen=True)
class Readiness:
    """Whether an object is ready.

    :param state: ``ready``; ``waiting``, it may still come; ``failed``, it will not come by itself; ``unknown``, nobody can
        tell from what is seen, and so it opens no gate.
    :param rule: name of the rule that decided.
    :param reason: why, for a person.
    """

    state: State
    rule: str
    reason: str


def ready(rule: str, reason: str) -> Readiness:
    """It is ready."""
    return Readiness("ready", rule, reason)


def waiting(rule: str, reason: str) -> Readiness:
    """It may still become ready."""
    return Readiness("waiting", rule, reason)


def failed(rule: str, reason: str) -> Readiness:
    """It will not become ready by itself."""
    return Readiness("failed", rule, reason)


def unknown(rule: str, reason: str) -> Readiness:
    """Nobody can tell."""
    return Readiness("unknown", rule, reason)


@dataclass(frozen=True)
class Applied(JsonForm):
    """What was applied, as the server's answer to it says; readiness is that of this object and of no other.

    :param uid: of the object; another one of the same name has another.
    :param generation: of its spec; 0 for a kind that counts none.
    :param images: images by digest (``repository@sha256:...``) that its pods must run; several of one repository: any.
    :param spec: a mark of each value of the spec that was applied, as the server stored it; no value itself, which may be a
        secret. Where something else has changed the object since, an autoscaler for example, they tell whether what was
        applied still holds.
    :param held: of a Secret or ConfigMap, a mark of the fields that whoever applied it holds, and of when it took them: all
        that tells whether it was changed since, as it counts no generation. Empty: nobody can tell.
    :param manager: who that is.
    """

    uid: str
    generation: int = 0
    images: tuple[str, ...] = ()
    spec: tuple[str, ...] = ()
    held: str = ""
    manager: str = ""

    @classmethod
    def of(
        cls,
        answer: Mapping[str, Any],
        manifest: Mapping[str, Any] | None = None,
        images: Sequence[str] = (),
        manager: str = "",
    ) -> Applied:
        """Return what was applied.

        :param answer: the object as the server returned it.
        :param manifest: what it was given.
        :param images: that the pods must run; by default those of the manifest's pods that name a digest.
        :param manager: under whose name it was applied.
        :return: what readiness is bound to.
        """
        metadata = map_(answer.get("metadata"))
        given = map_((manifest or {}).get("spec"))
        pinned = tuple(images) or tuple(one for one in template_images(manifest or {}) if "@sha256:" in one)
        generation = number(metadata.get("generation"))
        uid = text(metadata.get("uid"))
        spec = marks(uid, map_(answer.get("spec")), given) if given else ()
        held = held_by(metadata, manager) if answer.get("kind") in _DATA else ""
        return cls(uid, max(0, generation or 0), pinned, spec, held, manager if held else "")


@dataclass(frozen=True)
class Condition:
    """One of the conditions in a status.

    :param type: what it is about.
    :param status: ``True``, ``False`` or ``Unknown``.
    :param reason: one word of the controller.
    :param message: what it says to a person.
    :param generation: of the spec that it is about; ``None`` where it does not say.
    """

    type: str
    status: str = ""
    reason: str = ""
    message: str = ""
    generation: int | None = None

    @property
    def words(self) -> str:
        """What it says, in the shortest form that says something."""
        return (self.message or self.reason or f"{self.type} is {self.status}")[:500]


#: KServe copies the ``observedGeneration`` of the Deployment or Knative Service that it made into the status: it says
#: nothing of the generation of the object itself, which may be lower or higher.
_OF_OTHERS = {("serving.kserve.io", "InferenceService"), ("serving.kserve.io", "InferenceGraph")}


class Seen:
    """An object as the cluster tells it, read leniently: what has the wrong type is not there.

    :param item: the object.
    :param settled: nothing about it has changed for so long that a controller would have spoken, if there were one.
    :param declares: whether its definition declares conditions or an observed generation; ``None``: not known.
    :param empty_ok: that no pod is wanted is in order.
    """

    def __init__(
        self,
        item: Mapping[str, Any],
        *,
        settled: bool = False,
        declares: bool | None = None,
        empty_ok: bool = False,
    ) -> None:
        self.item, self.settled, self.declares, self.empty_ok = item, settled, declares, empty_ok
        self.metadata, self.spec = map_(item.get("metadata")), map_(item.get("spec"))
        self.status = map_(item.get("status"))
        self.kind = text(item.get("kind"))
        self.group = text(item.get("apiVersion")).rpartition("/")[0]
        self.uid, self.name = text(self.metadata.get("uid")), text(self.metadata.get("name"))
        self.generation = number(self.metadata.get("generation")) or 0
        #: As it is told, where it is the object's own.
        self.told = None if (self.group, self.kind) in _OF_OTHERS else self.status.get("observedGeneration")
        #: ``None`` where it is not told.
        self.observed = number(self.told)
        self.conditions = {one.type: one for one in map(condition_of, maps(self.status.get("conditions")))}

    def __str__(self) -> str:
        return f"{self.kind} {self.name}"

    def condition(self, kind: str) -> Condition | None:
        """Return a condition, unless it says that it is about an older spec."""
        found = self.conditions.get(kind)
        return None if found is None or self.behind(found) else found

    def behind(self, condition: Condition) -> bool:
        """Whether a condition is about an older spec."""
        return condition.generation is not None and condition.generation < self.generation

    def is_true(self, kind: str) -> bool:
        """Whether a condition holds, and is not about an older spec."""
        found = self.condition(kind)
        return found is not None and found.status == "True"

    def count(self, name: str) -> int:
        """Return a number of the status; 0 where it is not told, as Kubernetes leaves out a zero."""
        return number(self.status.get(name)) or 0

    @property
    def replicas(self) -> int:
        """How many pods are wanted; 1 where it is not said."""
        wanted = number(self.spec.get("replicas"))
        return 1 if wanted is None else wanted


def number(value: Any) -> int | None:
    """Return a whole number, also where it is written as text as Argo Rollouts does; ``None`` for anything else."""
    if isinstance(value, str) and value.isascii() and value.isdecimal() and len(value) < 19:
        return int(value)
    return whole(value)


def template_images(item: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the images that an object's pods are to run."""
    spec = map_(item.get("spec"))
    if item.get("kind") == "CronJob":
        spec = map_(map_(spec.get("jobTemplate")).get("spec"))
    pod = spec if item.get("kind") == "Pod" else map_(map_(spec.get("template")).get("spec"))
    named = [one.get("image") for one in maps(pod.get("containers"))]
    return tuple(one for one in named if isinstance(one, str) and one)


def leaves(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Walk over the values of a spec.

    :param path: of the value itself.
    :yield: where each stands, and what it is; items of a list are told by their name, where they have one.
    """
    if isinstance(value, Mapping) and value:
        for key, one in value.items():
            yield from leaves(one, f"{path}/{key}")
    elif isinstance(value, list) and value:
        for index, one in enumerate(value):
            named = one.get("name") if isinstance(one, Mapping) else None
            yield from leaves(one, f"{path}/{index if named is None else f'={named}'}")
    else:
        yield path, value


def marks(uid: str, spec: Any, only: Any = None) -> tuple[str, ...]:
    """Return a mark of each value of a spec: it tells whether a value is another one, and not what it is.

    :param uid: of the object; the same value in another object has another mark.
    :param only: a spec; values that have no place in it are left out.
    :return: the marks.
    """
    places = None if only is None else {place for place, _ in leaves(only)}
    found = []
    for place, value in leaves(spec):
        if places is None or place in places:
            text_ = json.dumps([uid, place, value], sort_keys=True, default=str)
            found.append(hashlib.sha256(text_.encode()).hexdigest()[:16])
    return tuple(found)


def held_by(metadata: Mapping[str, Any], manager: str) -> str:
    """Return a mark of what a manager holds of an object; no value is in it. Empty where it holds nothing."""
    told = [
        one
        for one in maps(metadata.get("managedFields"))
        if one.get("manager") == manager and not one.get("subresource")
    ]
    return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()[:16] if told else ""


def condition_of(one: Mapping[str, Any]) -> Condition:
    """Read one condition."""
    kind, status, reason, message = (text(one.get(key)) for key in ("type", "status", "reason", "message"))
    return Condition(kind, status, reason, message, number(one.get("observedGeneration")))
