"""An Argo Workflows server for tests: its REST over real HTTP, a little workflow machine, and the faults of the real one.

It is the Kubernetes API server for tests, too, and keeps its objects there, as the real one does: what is created through
one door is seen through the other. A test moves workflows on (:meth:`ArgoServer.begin`, :meth:`ArgoServer.node`,
:meth:`ArgoServer.finish`), or gives a :class:`Plan` by which they run by themselves. Each request and each answer is held
against the models of the published client; what does not fit is in :attr:`ArgoServer.unfit`.

Beside the :class:`~tests.kubernetes.apiserver.Fault` of any server it has what is peculiar to this one, always or when told:
a name is answered out of the archive; stopping what has ended is a 500; a quota is ``AlreadyExists``; the logs of pods that
are gone are an empty 200; a stream has no keep-alive, and may be closed, fall silent, or end in an error; an older server
(:attr:`ArgoServer.knows_uid`) does not know ``uid``.
"""

from __future__ import annotations

import asyncio
import copy
import functools
import importlib
import json
import re
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs, unquote

from tests.kubernetes.apiserver import ApiServer, Fault, _Cut, _send
from tests.kubernetes.objects import Object, Refused, as_seen, now, selected
from tests.openapi import problems

GROUP, VERSION = "argoproj.io", "v1alpha1"
KINDS = tuple(
    (GROUP, VERSION, plural)
    for plural in ("workflows", "workflowtemplates", "clusterworkflowtemplates", "cronworkflows")
)
OVER = ("Succeeded", "Failed", "Error")
#: gRPC code -> HTTP status, as its gateway maps them.
_HTTP = {3: 400, 5: 404, 6: 409, 7: 403, 9: 400, 13: 500, 16: 401}


class Grpc(Exception):
    """An error as the gateway of gRPC writes it."""

    def __init__(self, code: int, message: str, status: int = 0) -> None:
        super().__init__(message)
        self.status, self.body = status or _HTTP[code], {"code": code, "message": message}


@dataclass
class Plan:
    """How workflows run by themselves.

    :param seconds: how long each takes once it has begun.
    :param phase: how it ends.
    :param message: what it says then.
    :param outputs: its global output parameters.
    """

    seconds: float = 0.2
    phase: str = "Succeeded"
    message: str = ""
    outputs: dict[str, str] = field(default_factory=dict)


class ArgoServer(ApiServer):
    """The server; it runs in a thread of its own, and its workflow controller in another."""

    def __init__(self, **options: Any) -> None:
        super().__init__(*KINDS, **options)
        #: uid -> a workflow that was deleted, as the archive keeps it.
        self.archive: dict[str, Object] = {}
        #: Whether what is deleted after its end goes to the archive.
        self.archiving = True
        #: Whether there is an archive at all.
        self.has_archive = True
        self.knows_uid = True
        self.version_said = "v4.1.2"
        #: Workflows have fields that the published models do not know, as those of a later version have.
        self.newer = False
        #: So many creations are refused for a quota.
        self.quota = 0
        #: Namespaces that are gone.
        self.gone: set[str] = set()
        self.plan: Plan | None = None
        #: Streams that are opened say nothing.
        self.silent = False
        #: Streams end with this error, in place of going on, after what there is was told.
        self.stream_error: Object | None = None
        #: Ended workflows are not labelled as completed until this is set.
        self.completing = True
        #: (namespace, workflow, pod) -> lines.
        self.logs: dict[tuple[str, str, str], list[str]] = {}
        #: A log that is followed ends with the workflow, and without what was written since it was first told.
        self.loses_ends = False
        #: A log that is not followed breaks off after so many lines.
        self.logs_break_after: int | None = None
        #: (uid, node id, artifact name) -> content.
        self.artifacts: dict[tuple[str, str, str], bytes] = {}
        #: What did not fit the published description, of what came and of what was answered.
        self.unfit: list[str] = []
        self.open_events = self.most_events = self.open_logs = 0
        #: Bodies of all writes, in order: (METHOD path, body).
        self.writes: list[tuple[str, Object]] = []
        self._stopping = threading.Event()
        self._controller: threading.Thread | None = None
        self._begun: dict[str, float] = {}

    def start(self) -> ArgoServer:
        """Serve, and control."""
        super().start()
        self._stopping.clear()
        self._controller = threading.Thread(target=self._control, daemon=True)
        self._controller.start()
        return self

    def stop(self) -> None:
        """Stop both."""
        self._stopping.set()
        super().stop()
        if self._controller is not None:
            self._controller.join(10)

    # ---- the machine -------------------------------------------------------------------------------------------------

    def workflows(self) -> list[Object]:
        """Return all live workflows."""
        return self.all("workflows")

    def one(self, name: str, namespace: str = "argo") -> Object:
        """Return a workflow."""
        found = self.read("workflows", namespace, name)
        assert found is not None, f"there is no workflow {name}"
        return found

    def submit(self, workflow: Object, namespace: str = "argo") -> Object:
        """Create a workflow as somebody else does."""
        return self.put(GROUP, VERSION, "workflows", _placed(workflow, namespace))

    def template(self, spec: Object, name: str, namespace: str = "argo", *, cluster: bool = False) -> None:
        """Create a WorkflowTemplate, or a ClusterWorkflowTemplate."""
        kind = "ClusterWorkflowTemplate" if cluster else "WorkflowTemplate"
        metadata = {"name": name} if cluster else {"name": name, "namespace": namespace}
        body = {"apiVersion": f"{GROUP}/{VERSION}", "kind": kind, "metadata": metadata, "spec": spec}
        self.put(GROUP, VERSION, f"{kind.lower()}s", body)

    def begin(self, name: str, namespace: str = "argo") -> None:
        """Let a workflow begin: its nodes are there, and run."""
        self._change(name, namespace, self._begin)

    def node(
        self,
        name: str,
        task: str,
        phase: str,
        *,
        namespace: str = "argo",
        message: str = "",
        exit_code: int | None = None,
        outputs: dict[str, str] | None = None,
        log: tuple[str, ...] = (),
        artifacts: tuple[Object, ...] = (),
        kind: str = "",
    ) -> None:
        """Move a node on, by the name that people see."""

        def change(item: Object) -> None:
            found = next(one for one in item["status"]["nodes"].values() if one["displayName"] == task)
            found["phase"], found["message"], found["type"] = phase, message, kind or found["type"]
            if phase in (*OVER, "Skipped", "Omitted"):
                found["finishedAt"] = now()
                found["progress"] = "1/1" if phase == "Succeeded" else "0/1"
            produced: Object = found.setdefault("outputs", {})
            if exit_code is not None:
                produced["exitCode"] = str(exit_code)
            if outputs:
                produced["parameters"] = [{"name": key, "value": value} for key, value in outputs.items()]
            if artifacts:
                produced["artifacts"] = list(artifacts)
            _count(item)

        self._change(name, namespace, change)
        if log:
            self.log(name, task, *log, namespace=namespace)

    def log(self, name: str, task: str, *lines: str, namespace: str = "argo") -> None:
        """Let the pod of a node print lines."""
        item = self.one(name, namespace)
        found = next(one for one in item["status"]["nodes"].values() if one["displayName"] == task)
        self.logs.setdefault((namespace, name, pod_of(item, found)), []).extend(lines)

    def finish(
        self,
        name: str,
        phase: str = "Succeeded",
        *,
        namespace: str = "argo",
        message: str = "",
        outputs: dict[str, str] | None = None,
    ) -> None:
        """End a workflow; nodes that still run end as it does."""
        self._change(name, namespace, lambda item: self._end(item, phase, message, outputs or {}))

    def complete(self, name: str, namespace: str = "argo") -> None:
        """Label an ended workflow as completed: the results of its tasks are in."""
        self._change(name, namespace, _complete)

    def collect_pods(self, name: str, namespace: str = "argo", *, keep_logs: bool = False) -> None:
        """Delete the pods of a workflow; their logs are gone with them, but for those that were kept as artifacts."""
        item = self.one(name, namespace)
        pods = {
            pod_of(item, node): node for node in item["status"]["nodes"].values() if node["type"] == "Pod"
        }
        for key in [key for key in self.logs if key[:2] == (namespace, name)]:
            lines = self.logs.pop(key)
            if keep_logs and key[2] in pods:
                text = "".join(f"{line}\n" for line in lines).encode()
                self.artifacts[item["metadata"]["uid"], pods[key[2]]["id"], "main-logs"] = text

    def remove(self, name: str, namespace: str = "argo") -> None:
        """Delete a workflow at once, as the garbage collection does."""
        with self.lock:
            kind = self.kinds[GROUP, VERSION, "workflows"]
            found = kind.objects[namespace, name]
            if self.archiving and _phase(found) in OVER:
                self.archive[found["metadata"]["uid"]] = copy.deepcopy(found)
            after = copy.deepcopy(found)
            after["metadata"].update(deletionTimestamp=now(), finalizers=[])
            self.store(kind, found, after)

    def _change(self, name: str, namespace: str, change: Callable[[Object], None]) -> None:
        assert self.change("workflows", namespace, name, change) is not None, f"there is no workflow {name}"

    def _control(self) -> None:
        """Do what the workflow controller does: begin, obey a shutdown, and end by the plan."""
        while not self._stopping.wait(0.01):
            with self.lock:
                live = self.kinds[GROUP, VERSION, "workflows"].objects.values()
                for item in [copy.deepcopy(one) for one in live if self._due(one)]:
                    self._step(item)

    def _due(self, item: Object) -> bool:
        """Whether there is anything to do: looking must cost next to nothing, since it holds up all else."""
        if _phase(item) in OVER:
            return False
        return bool(item["spec"].get("shutdown")) or (
            self.plan is not None and not item["spec"].get("suspend")
        )

    def _step(self, item: Object) -> None:
        metadata, phase = item["metadata"], _phase(item)
        name, namespace = metadata["name"], metadata["namespace"]
        shutdown = item["spec"].get("shutdown")
        if shutdown and phase not in OVER:
            message = f"Stopped with strategy '{shutdown}'"
            return self.finish(name, "Failed", namespace=namespace, message=message)
        if self.plan is None or item["spec"].get("suspend") or phase in OVER:
            return None
        if not phase:
            self._begun[metadata["uid"]] = time.monotonic()
            return self.begin(name, namespace)
        if time.monotonic() - self._begun.setdefault(metadata["uid"], time.monotonic()) >= self.plan.seconds:
            plan = self.plan
            del self._begun[metadata["uid"]]
            self.finish(name, plan.phase, namespace=namespace, message=plan.message, outputs=plan.outputs)
        return None

    def _begin(self, item: Object) -> None:
        status = item.setdefault("status", {})
        status.update(phase="Running", startedAt=now(), finishedAt=None, nodes=self._nodes(item))
        item["metadata"].setdefault("labels", {})["workflows.argoproj.io/phase"] = "Running"
        _count(item)

    def _end(self, item: Object, phase: str, message: str, outputs: dict[str, str]) -> None:
        status = item["status"] = item.get("status") or {}
        if not status.get("startedAt"):
            self._begin(item)
        for one in status["nodes"].values():
            if one["phase"] in ("Pending", "Running"):
                one.update(phase=phase, finishedAt=now(), progress="1/1" if phase == "Succeeded" else "0/1")
        status.update(phase=phase, message=message, finishedAt=now())
        if outputs:
            status["outputs"] = {
                "parameters": [{"name": name, "value": value} for name, value in outputs.items()]
            }
        item["metadata"].setdefault("labels", {})["workflows.argoproj.io/phase"] = phase
        _count(item)
        if self.completing:
            _complete(item)

    def _nodes(self, item: Object) -> dict[str, Object]:
        name = item["metadata"]["name"]
        spec, templates = self._spec(item)
        entry = templates.get(spec.get("entrypoint") or "", {"name": "main"})
        tasks = (entry.get("dag") or {}).get("tasks") or [
            {**step, "at": at} for at, steps in enumerate(entry.get("steps") or ()) for step in steps
        ]
        kind = "DAG" if entry.get("dag") else "Steps" if tasks else "Pod"
        root = _node(name, name, name, kind, entry["name"])
        found = {name: root}
        for task in tasks:
            path = f"{name}[{task['at']}].{task['name']}" if "at" in task else f"{name}.{task['name']}"
            made = _node(f"{name}-{fnv(path)}", path, task["name"], "Pod", task.get("template") or "remote")
            made["boundaryID"] = name
            found[made["id"]] = made
            root.setdefault("children", []).append(made["id"])
        return found

    def _spec(self, item: Object) -> tuple[Object, dict[str, Object]]:
        """Return the spec that is run, and its templates by name."""
        spec = item["spec"]
        if ref := spec.get("workflowTemplateRef"):
            plural = "clusterworkflowtemplates" if ref.get("clusterScope") else "workflowtemplates"
            namespace = "" if ref.get("clusterScope") else item["metadata"]["namespace"]
            found = self.read(plural, namespace, ref["name"])
            if found is None:
                raise Grpc(5, f'{plural}.argoproj.io "{ref["name"]}" not found')
            spec = {**found["spec"], **{key: value for key, value in spec.items() if key != "arguments"}}
        return spec, {one["name"]: one for one in spec.get("templates") or ()}

    # ---- HTTP --------------------------------------------------------------------------------------------------------

    async def _app(self, scope: Any, receive: Any, send: Any) -> None:
        path = scope["path"]
        route, values = _routed(scope["method"], path)
        if route is None:
            return await super()._app(scope, receive, send)
        self._loop = asyncio.get_running_loop()
        query = {key: found[0] for key, found in parse_qs(scope["query_string"].decode()).items()}
        headers = {key.decode(): value.decode() for key, value in scope["headers"]}
        self.requests.append(f"{scope['method']} {path}")
        body = await _body(receive)
        fault = self._strike(scope["method"], path)
        if await self._spoilt(fault, send):
            return None
        try:
            self._permit(headers, route, values)
            if route.answer == "stream":
                return await self._stream(route, values, query, receive, send)
            with self.lock:
                sent = json.loads(body) if body else {}
                if route.takes:
                    self._check(f"{route.verb} {path} was sent", sent, route.takes)
                    self.writes.append((f"{scope['method']} {path}", sent))
                found = getattr(self, f"_do_{route.name}")(values, query, sent)
        except Grpc as error:
            return await _send(send, error.status, error.body)
        except Refused as refused:
            code = {404: 5, 409: 6, 403: 7, 401: 16}.get(refused.code, 3)
            return await _send(send, _HTTP[code], {"code": code, "message": refused.body["message"]})
        if fault and fault.kind == "lose":
            return await _cut(send)
        if isinstance(found, bytes):
            return await _send(send, 200, found.decode())
        fields = query.get("fields", "")
        answer = chosen(found, fields) if fields else found
        if route.answer:
            self._check(f"{path} was answered", answer, route.answer, whole=not fields)
        answer = _newer(answer) if self.newer else answer
        await _send(send, 200, answer, truncate=bool(fault and fault.kind == "truncate"))
        return None

    async def _spoilt(self, fault: Fault | None, send: Any) -> bool:
        """Do what goes wrong before the server has acted; whether the answer is given by that."""
        if fault is None:
            return False
        if fault.kind == "delay":
            await asyncio.sleep(fault.seconds)
        if fault.kind == "drop":
            await _cut(send)
        if fault.kind == "status":
            extra = {"retry-after": fault.retry_after} if fault.retry_after else {}
            await _send(send, fault.status, {"code": 8, "message": "told to fail"}, extra)
        return fault.kind == "status"

    def _permit(self, headers: dict[str, str], route: Route, values: dict[str, str]) -> None:
        token = headers.get("authorization", "").removeprefix("Bearer ")
        if token not in self.tokens:
            raise Grpc(16, "token not valid. see https://argo-workflows.readthedocs.io/en/latest/faq/")
        if route.verb and not self.tokens[token](
            route.verb, f"{route.resource}.{GROUP}", values.get("namespace", "")
        ):
            raise Grpc(
                7, f'{route.resource}.{GROUP} is forbidden: cannot {route.verb} resource "{route.resource}"'
            )

    def _check(self, about: str, value: Any, model: str, *, whole: bool = True) -> None:
        said = problems(value, _model(model))
        # An answer of chosen fields lacks what was not chosen.
        self.unfit += [f"{about}: {one}" for one in said if whole or not one.endswith(" needs it")]

    # ---- workflows ---------------------------------------------------------------------------------------------------

    def _live(self, values: dict[str, str]) -> Object:
        return self._one(self.kinds[GROUP, VERSION, "workflows"], values["namespace"], values["name"])

    def _do_get(self, values: dict[str, str], query: dict[str, str], _: Object) -> Object:
        uid = query.get("uid", "") if self.knows_uid else ""
        try:
            found = self._live(values)
            if not uid or found["metadata"]["uid"] == uid:
                return copy.deepcopy(found)
        except Refused:
            pass
        kept = [
            one
            for one in self.archive.values()
            if (one["metadata"]["namespace"], one["metadata"]["name"])
            == (values["namespace"], values["name"])
            and uid in ("", one["metadata"]["uid"])
        ]
        if not kept:
            raise Grpc(5, f'workflows.argoproj.io "{values["name"]}" not found')
        newest = max(
            kept, key=lambda one: (one["status"]["startedAt"], int(one["metadata"]["resourceVersion"]))
        )
        return _archived(newest)

    def _do_create(self, values: dict[str, str], query: dict[str, str], sent: Object) -> Object:
        made = _placed(sent.get("workflow") or {}, values["namespace"])
        self._valid(made)
        if values["namespace"] in self.gone:
            raise Grpc(5, f'namespaces "{values["namespace"]}" not found')
        if "generateName" in made["metadata"] and not made["metadata"].get("name"):
            made["metadata"]["name"] = f"{made['metadata']['generateName']}{self.version}"
        if sent.get("serverDryRun") or (sent.get("createOptions") or {}).get("dryRun"):
            made["metadata"].update(uid="0", creationTimestamp=now())
            return made
        if self.quota > 0:
            self.quota -= 1
            quota = 'Operation cannot be fulfilled on resourcequotas "q": the object has been modified'
            raise Grpc(6, f"{quota}; please apply your changes to the latest version and try again")
        made.setdefault("status", {"startedAt": None, "finishedAt": None})
        return self.insert(self.kinds[GROUP, VERSION, "workflows"], made)

    def _valid(self, made: Object) -> None:
        metadata = made.get("metadata") or {}
        if not metadata.get("name") and not metadata.get("generateName"):
            raise Grpc(3, "name or generateName is required")
        spec, templates = self._spec(made)
        given = {one["name"]: one for one in (made["spec"].get("arguments") or {}).get("parameters") or ()}
        for one in (spec.get("arguments") or {}).get("parameters") or ():
            if "value" not in {**one, **given.get(one["name"], {})}:
                raise Grpc(
                    3,
                    f"spec.arguments.{one['name']}.value or spec.arguments.{one['name']}.valueFrom is required",
                )
        entry = spec.get("entrypoint")
        if not entry:
            raise Grpc(3, "spec.entrypoint is required")
        if entry not in templates:
            raise Grpc(3, f"spec.entrypoint template name '{entry}' undefined")
        for template in templates.values():
            tasks = (template.get("dag") or {}).get("tasks") or [
                step for steps in template.get("steps") or () for step in steps
            ]
            for task in tasks:
                if "templateRef" not in task and task.get("template") not in templates:
                    raise Grpc(
                        3,
                        f"templates.{template['name']}.tasks.{task['name']} template name '{task.get('template')}' "
                        "undefined",
                    )

    def _do_lint(self, values: dict[str, str], query: dict[str, str], sent: Object) -> Object:
        made = _placed(sent.get("workflow") or {}, values["namespace"])
        self._valid(made)
        return made

    def _do_list(self, values: dict[str, str], query: dict[str, str], sent: Object) -> Object:
        wanted = {key.removeprefix("listOptions."): value for key, value in query.items()}
        found = [one for one in self.all("workflows") if selected(one, values.get("namespace", ""), wanted)]
        known = {one["metadata"]["uid"] for one in found}
        found += [
            _archived(one)
            for uid, one in self.archive.items()
            if uid not in known and selected(one, values.get("namespace", ""), wanted)
        ]
        limit = int(wanted.get("limit") or 0) or len(found)
        return {"metadata": {"resourceVersion": str(self.version)}, "items": found[:limit]}

    def _do_submit(self, values: dict[str, str], query: dict[str, str], sent: Object) -> Object:
        options = sent.get("submitOptions") or {}
        scope = {"clusterScope": True} if sent["resourceKind"] == "ClusterWorkflowTemplate" else {}
        pairs = [one.partition("=") for one in options.get("parameters") or ()]
        spec: Object = {"workflowTemplateRef": {"name": sent["resourceName"], **scope}}
        if pairs:
            spec["arguments"] = {"parameters": [{"name": key, "value": value} for key, _, value in pairs]}
        metadata = {"generateName": options.get("generateName") or f"{sent['resourceName']}-"}
        if options.get("name"):
            metadata = {"name": options["name"]}
        labels = dict(one.split("=", 1) for one in filter(None, (options.get("labels") or "").split(",")))
        return self._do_create(
            values, query, {"workflow": {"metadata": {**metadata, "labels": labels}, "spec": spec}}
        )

    def _update(self, values: dict[str, str], change: Callable[[Object], None]) -> Object:
        found = self._live(values)
        after = copy.deepcopy(found)
        change(after)
        return self.store(self.kinds[GROUP, VERSION, "workflows"], found, after)

    def _do_stop(self, values: dict[str, str], query: dict[str, str], sent: Object) -> Object:
        return self._shut(values, "Stop")

    def _do_terminate(self, values: dict[str, str], query: dict[str, str], sent: Object) -> Object:
        return self._shut(values, "Terminate")

    def _shut(self, values: dict[str, str], how: str) -> Object:
        if _phase(self._live(values)) in OVER:
            raise Grpc(13, "cannot shutdown a completed workflow")
        return self._update(values, lambda item: item["spec"].update(shutdown=how))

    def _do_suspend(self, values: dict[str, str], query: dict[str, str], sent: Object) -> Object:
        if _phase(self._live(values)) in OVER:
            raise Grpc(13, "cannot suspend completed workflows")
        return self._update(values, lambda item: item["spec"].update(suspend=True))

    def _do_resume(self, values: dict[str, str], query: dict[str, str], sent: Object) -> Object:
        return self._update(values, _resumed)

    def _do_retry(self, values: dict[str, str], query: dict[str, str], sent: Object) -> Object:
        if _phase(self._live(values)) not in ("Failed", "Error"):
            raise Grpc(3, f"Cannot retry a workflow in phase {_phase(self._live(values))}")
        return self._update(values, _retried)

    def _do_resubmit(self, values: dict[str, str], query: dict[str, str], sent: Object) -> Object:
        return self._again(self._live(values), values["namespace"])

    def _again(self, found: Object, namespace: str) -> Object:
        labels = {
            key: value
            for key, value in (found["metadata"].get("labels") or {}).items()
            if not key.startswith("workflows.argoproj.io/")
        }
        labels["workflows.argoproj.io/resubmitted-from-workflow"] = found["metadata"]["name"]
        spec = {key: value for key, value in found["spec"].items() if key not in ("shutdown", "suspend")}
        metadata = {"generateName": f"{found['metadata']['name']}-", "labels": labels}
        made = {"metadata": metadata, "spec": copy.deepcopy(spec)}
        return self._do_create({"namespace": namespace}, {}, {"workflow": made})

    def _do_remove(self, values: dict[str, str], query: dict[str, str], sent: Object) -> Object:
        self._live(values)
        self.remove(values["name"], values["namespace"])
        return {}

    # ---- the archive, artifacts --------------------------------------------------------------------------------------

    def _do_archived_get(self, values: dict[str, str], query: dict[str, str], sent: Object) -> Object:
        if not self.has_archive:
            raise Grpc(13, "getting archived workflows not supported")
        found = self.archive.get(values["uid"])
        if found is None:
            raise Grpc(5, "not found")
        return _archived(found)

    def _do_archived_list(self, values: dict[str, str], query: dict[str, str], sent: Object) -> Object:
        wanted = {key.removeprefix("listOptions."): value for key, value in query.items()}
        found = [
            _archived(one)
            for one in self.archive.values()
            if selected(one, query.get("namespace", ""), wanted)
        ]
        return {"metadata": {}, "items": found}

    def _do_archived_retry(self, values: dict[str, str], query: dict[str, str], sent: Object) -> Object:
        found = self._do_archived_get(values, query, sent)
        _retried(found)
        made = self.insert(self.kinds[GROUP, VERSION, "workflows"], copy.deepcopy(found))
        del self.archive[values["uid"]]
        return made

    def _do_archived_resubmit(self, values: dict[str, str], query: dict[str, str], sent: Object) -> Object:
        found = self._do_archived_get(values, query, sent)
        return self._again(found, found["metadata"]["namespace"])

    def _do_artifact(self, values: dict[str, str], query: dict[str, str], sent: Object) -> bytes:
        if values["kind"] == "archived-workflows":
            uid = self._do_archived_get({"uid": values["id"]}, query, sent)["metadata"]["uid"]
        else:
            uid = self._live({"namespace": values["namespace"], "name": values["id"]})["metadata"]["uid"]
        found = self.artifacts.get((uid, values["node"], values["artifact"]))
        if found is None:
            raise Grpc(5, "artifact not found")
        return found

    # ---- templates, cron ---------------------------------------------------------------------------------------------

    def _do_template_get(self, values: dict[str, str], query: dict[str, str], sent: Object) -> Object:
        plural = "workflowtemplates" if "namespace" in values else "clusterworkflowtemplates"
        return copy.deepcopy(
            self._one(self.kinds[GROUP, VERSION, plural], values.get("namespace", ""), values["name"])
        )

    def _do_cron_create(self, values: dict[str, str], query: dict[str, str], sent: Object) -> Object:
        made = _placed(sent.get("cronWorkflow") or {}, values["namespace"])
        made["spec"] = self._cron_spec(made["spec"])
        return self.insert(self.kinds[GROUP, VERSION, "cronworkflows"], made)

    def _cron_spec(self, given: Object) -> Object:
        """Return a spec as the server's own types hold it: what they do not know is dropped, what is empty is there."""
        spec = copy.deepcopy(given)
        if not self.version_said.startswith("v3."):
            spec.pop("schedule", None)
        if not (spec.get("schedule") or spec.get("schedules")):
            raise Grpc(3, "cron workflow must have at least one schedule")
        workflow = spec.setdefault("workflowSpec", {})
        workflow.setdefault("arguments", {})
        for template in workflow.get("templates") or ():
            for part in ("inputs", "outputs", "metadata"):
                template.setdefault(part, {})
            if "container" in template:
                template["container"] = {"name": "", "resources": {}, **template["container"]}
        return spec

    def _cron(self, values: dict[str, str]) -> Object:
        return self._one(self.kinds[GROUP, VERSION, "cronworkflows"], values["namespace"], values["name"])

    def _do_cron_get(self, values: dict[str, str], query: dict[str, str], sent: Object) -> Object:
        return copy.deepcopy(self._cron(values))

    def _cron_write(self, values: dict[str, str], change: Callable[[Object], None]) -> Object:
        found = self._cron(values)
        after = copy.deepcopy(found)
        change(after)
        return self.store(self.kinds[GROUP, VERSION, "cronworkflows"], found, after)

    def _do_cron_update(self, values: dict[str, str], query: dict[str, str], sent: Object) -> Object:
        return self._cron_write(
            values, lambda item: item.update(spec=self._cron_spec(sent["cronWorkflow"]["spec"]))
        )

    def _do_cron_suspend(self, values: dict[str, str], query: dict[str, str], sent: Object) -> Object:
        return self._cron_write(values, lambda item: item["spec"].update(suspend=True))

    def _do_cron_resume(self, values: dict[str, str], query: dict[str, str], sent: Object) -> Object:
        return self._cron_write(values, lambda item: item["spec"].update(suspend=False))

    # ---- the server itself -------------------------------------------------------------------------------------------

    def _do_info(self, values: dict[str, str], query: dict[str, str], sent: Object) -> Object:
        return {"managedNamespace": "", "links": [], "modals": {}, "navColor": ""}

    def _do_version(self, values: dict[str, str], query: dict[str, str], sent: Object) -> Object:
        said = dict.fromkeys(
            ("buildDate", "compiler", "gitCommit", "gitTag", "gitTreeState", "goVersion", "platform"), ""
        )
        return {**said, "version": self.version_said}

    def _do_userinfo(self, values: dict[str, str], query: dict[str, str], sent: Object) -> Object:
        return {"subject": "system:serviceaccount:argo:airflow", "serviceAccountName": "airflow"}

    # ---- streams -----------------------------------------------------------------------------------------------------

    async def _stream(
        self, route: Route, values: dict[str, str], query: dict[str, str], receive: Any, send: Any
    ) -> None:
        logs = route.name == "log"
        if logs:
            self._live(values)  # there is no archive of logs
        elif name := _named(query):
            self._live({**values, "name": name})
        begin = [(b"content-type", b"application/json")]
        await send({"type": "http.response.start", "status": 200, "headers": begin})
        telling = self._tell_logs if logs else self._tell_events
        task = asyncio.ensure_future(telling(values, query, send))
        gone = asyncio.ensure_future(receive())
        self._streams.add(task)
        self.open_logs += logs
        self.open_events += not logs
        self.most_events = max(self.most_events, self.open_events)
        try:
            await asyncio.wait({task, gone}, return_when=asyncio.FIRST_COMPLETED)
            if not task.done():
                return
            await task
        except asyncio.CancelledError:
            raise _Cut from None
        except Exception as error:  # the HTTP server would keep it to itself
            self.unfit.append(f"a stream broke: {error!r}")
            raise
        finally:
            self.open_logs -= logs
            self.open_events -= not logs
            self._streams.discard(task)
            task.cancel()
            gone.cancel()
        await send({"type": "http.response.body", "body": b""})

    async def _tell_events(self, values: dict[str, str], query: dict[str, str], send: Any) -> None:
        namespace = values["namespace"]
        wanted = {key.removeprefix("listOptions."): value for key, value in query.items()}
        kind, seen = self.kinds[GROUP, VERSION, "workflows"], 0
        if self.silent:
            await asyncio.Event().wait()
        with self.lock:
            found = [
                ("ADDED", copy.deepcopy(one))
                for one in kind.objects.values()
                if selected(one, namespace, wanted)
            ]
            seen = self.version
        while True:
            for event, item in found:
                await self._line(send, {"type": event, "object": item}, query, "workflow_watch_event")
            if self.stream_error is not None:
                line = json.dumps({"error": self.stream_error}).encode() + b"\n"
                return await send({"type": "http.response.body", "body": line, "more_body": True})
            await asyncio.sleep(0.01)
            with self.lock:
                news, seen = [entry for entry in kind.history if entry[0] > seen], self.version
            told = [
                (as_seen(event, item, before, namespace, wanted), item) for _, event, item, before in news
            ]
            found = [(event, item) for event, item in told if event]

    async def _tell_logs(self, values: dict[str, str], query: dict[str, str], send: Any) -> None:
        key, sent = (values["namespace"], values["name"]), {}
        pod, follow = query.get("podName", ""), query.get("logOptions.follow") == "true"
        tail = int(query.get("logOptions.tailLines") or 0)
        while True:
            with self.lock:
                live = self.read("workflows", *key)
                found = {one[2]: list(lines) for one, lines in self.logs.items() if one[:2] == key}
            if follow and self.loses_ends and sent:
                found = {}
            for name, lines in found.items():
                if pod in ("", name):
                    first = sent.get(name, max(0, len(lines) - tail) if tail else 0)
                    for at, line in enumerate(lines[first:]):
                        if not follow and at == self.logs_break_after:
                            raise asyncio.CancelledError
                        await self._line(send, {"content": line, "podName": name}, {}, "log_entry")
                    sent[name] = len(lines)
            if not follow or live is None or _phase(live) in OVER:
                return
            await asyncio.sleep(0.01)

    async def _line(self, send: Any, result: Object, query: dict[str, str], model: str) -> None:
        fields = query.get("fields", "")
        said = chosen({"result": result}, fields) if fields else {"result": result}
        self._check("a stream told", said.get("result"), model, whole=not fields)
        if self.newer and "object" in said["result"]:
            said["result"]["object"] = _newer(said["result"]["object"])
        line = json.dumps(said).encode() + b"\n"
        await send({"type": "http.response.body", "body": line, "more_body": True})


@dataclass(frozen=True)
class Route:
    """One call.

    :param name: of the method that answers it, after the underscore.
    :param verb: what Kubernetes calls the permission; empty where none is needed.
    :param resource: that it is about.
    :param takes: model of its body.
    :param answer: model of its answer; ``stream`` for a stream.
    """

    name: str
    verb: str = ""
    resource: str = "workflows"
    takes: str = ""
    answer: str = "workflow"


_W, _A, _C = (
    "/api/v1/workflows/{namespace}",
    "/api/v1/archived-workflows",
    "/api/v1/cron-workflows/{namespace}",
)
_ROUTES = {
    ("GET", "/api/v1/version"): Route("version", answer="version"),
    ("GET", "/api/v1/info"): Route("info", answer="info_response"),
    ("GET", "/api/v1/userinfo"): Route("userinfo", answer="get_user_info_response"),
    ("GET", _W): Route("list", "list", answer="workflow_list"),
    ("POST", _W): Route("create", "create", takes="workflow_create_request"),
    ("POST", f"{_W}/lint"): Route("lint", takes="workflow_lint_request"),
    ("POST", f"{_W}/submit"): Route("submit", "create", takes="workflow_submit_request"),
    ("GET", f"{_W}/{{name}}"): Route("get", "get"),
    ("DELETE", f"{_W}/{{name}}"): Route("remove", "delete", answer=""),
    **{
        ("PUT", f"{_W}/{{name}}/{act}"): Route(act, "update", takes=f"workflow_{act}_request")
        for act in ("stop", "terminate", "suspend", "resume", "retry")
    },
    ("PUT", f"{_W}/{{name}}/resubmit"): Route("resubmit", "create", takes="workflow_resubmit_request"),
    ("GET", f"{_W}/{{name}}/log"): Route("log", "get", "pods/log", answer="stream"),
    ("GET", "/api/v1/workflow-events/{namespace}"): Route("events", "watch", answer="stream"),
    ("GET", _A): Route("archived_list", "list", answer="workflow_list"),
    ("GET", f"{_A}/{{uid}}"): Route("archived_get", "get"),
    ("PUT", f"{_A}/{{uid}}/retry"): Route("archived_retry", "create", takes="retry_archived_workflow_request"),
    ("PUT", f"{_A}/{{uid}}/resubmit"): Route(
        "archived_resubmit", "create", takes="resubmit_archived_workflow_request"
    ),
    ("GET", "/artifact-files/{namespace}/{kind}/{id}/{node}/outputs/{artifact}"): Route(
        "artifact", "get", answer=""
    ),
    ("GET", "/api/v1/workflow-templates/{namespace}/{name}"): Route(
        "template_get", "get", "workflowtemplates", answer="workflow_template"
    ),
    ("GET", "/api/v1/cluster-workflow-templates/{name}"): Route(
        "template_get", "get", "clusterworkflowtemplates", answer="cluster_workflow_template"
    ),
    ("POST", _C): Route("cron_create", "create", "cronworkflows", "create_cron_workflow_request", "cron_workflow"),
    ("GET", f"{_C}/{{name}}"): Route("cron_get", "get", "cronworkflows", answer="cron_workflow"),
    ("PUT", f"{_C}/{{name}}"): Route(
        "cron_update", "update", "cronworkflows", "update_cron_workflow_request", "cron_workflow"
    ),
    ("PUT", f"{_C}/{{name}}/suspend"): Route(
        "cron_suspend", "update", "cronworkflows", "cron_workflow_suspend_request", "cron_workflow"
    ),
    ("PUT", f"{_C}/{{name}}/resume"): Route(
        "cron_resume", "update", "cronworkflows", "cron_workflow_resume_request", "cron_workflow"
    ),
}  # fmt: skip
_PATTERNS = [
    (method, re.compile(re.sub(r"{(\w+)}", r"(?P<\1>[^/]+)", path)), route)
    for (method, path), route in _ROUTES.items()
]


def _routed(method: str, path: str) -> tuple[Route | None, dict[str, str]]:
    for known, pattern, route in _PATTERNS:
        if known == method and (match := pattern.fullmatch(path)):
            return route, {key: unquote(value) for key, value in match.groupdict().items()}
    return None, {}


@functools.cache
def _model(name: str) -> type:
    """Return a model of the published client by the name of its module."""
    module = importlib.import_module(f"argo_workflows.model.io_argoproj_workflow_v1alpha1_{name}")
    wanted = f"io_argoproj_workflow_v1alpha1_{name}".replace("_", "")
    return next(value for key, value in vars(module).items() if key.lower() == wanted)


async def _cut(send: Any) -> None:
    """Close the connection before an answer has come; what comes of it is a beginning without an end."""
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"9")]})
    raise _Cut


async def _body(receive: Any) -> bytes:
    body = b""
    while True:
        message = await receive()
        body += message.get("body", b"")
        if not message.get("more_body"):
            return body


def _placed(body: Object, namespace: str) -> Object:
    made = copy.deepcopy(body)
    made.setdefault("metadata", {})["namespace"] = namespace
    made.setdefault("spec", {})
    return made


def _phase(item: Object) -> str:
    return str((item.get("status") or {}).get("phase") or "")


def _complete(item: Object) -> None:
    item["metadata"].setdefault("labels", {})["workflows.argoproj.io/completed"] = "true"


def _archived(item: Object) -> Object:
    found = copy.deepcopy(item)
    found["metadata"].setdefault("labels", {})["workflows.argoproj.io/workflow-archiving-status"] = (
        "Persisted"
    )
    return found


def _newer(item: Object) -> Object:
    """Return a workflow with fields that nobody knows yet, in each of its parts."""
    if not isinstance(item.get("metadata"), dict):
        return item
    made = copy.deepcopy(item)
    status = made.get("status") or {}
    for part in (made, made["metadata"], made.get("spec"), status, *(status.get("nodes") or {}).values()):
        if isinstance(part, dict):
            part["notKnownYet"] = {"since": ["v9.9"], "phase": "Unheard"}
    return made


def _resumed(item: Object) -> None:
    """Let it go on, and end the suspend nodes at which it waits."""
    item["spec"].pop("suspend", None)
    for node in ((item.get("status") or {}).get("nodes") or {}).values():
        if (node["type"], node["phase"]) == ("Suspend", "Running"):
            node.update(phase="Succeeded", finishedAt=now())


def _retried(item: Object) -> None:
    status = item["status"]
    for node in status["nodes"].values():
        if node["phase"] in ("Failed", "Error"):
            node.update(phase="Running", finishedAt=None, message="", progress="0/1", outputs={})
    # The clock of the tests' server has seconds, as that of the real one: a retry begins after what it retries.
    begun = max(
        time.time(),
        time.mktime(time.strptime(status["finishedAt"], "%Y-%m-%dT%H:%M:%SZ")) - time.timezone + 1,
    )
    status.update(
        phase="Running",
        message="",
        finishedAt=None,
        startedAt=time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(begun)),
    )
    item["spec"].pop("shutdown", None)
    labels = item["metadata"].setdefault("labels", {})
    labels["workflows.argoproj.io/phase"] = "Running"
    labels.pop("workflows.argoproj.io/completed", None)
    labels.pop("workflows.argoproj.io/workflow-archiving-status", None)
    _count(item)


def _count(item: Object) -> None:
    pods = [node for node in item["status"]["nodes"].values() if node["type"] == "Pod"]
    done = sum(node["phase"] == "Succeeded" for node in pods)
    item["status"]["progress"] = f"{done}/{len(pods)}"


def _node(ident: str, name: str, shown: str, kind: str, template: str) -> Object:
    return {
        "id": ident,
        "name": name,
        "displayName": shown,
        "type": kind,
        "templateName": template,
        "phase": "Running",
        "startedAt": now(),
        "finishedAt": None,
        "progress": "0/1",
    }


def pod_of(item: Object, node: Object) -> str:
    """Return the name of a node's pod, as the controller gives it."""
    name = item["metadata"]["name"]
    if node["name"] == name:
        return str(name)
    return f"{name}-{node['templateName']}-{fnv(node['name'])}"


def fnv(text: str) -> int:
    """Return the FNV-1a hash of 32 bits, of which the names of nodes and pods are made."""
    found = 2166136261
    for byte in text.encode():
        found = (found ^ byte) * 16777619 % 2**32
    return found


def chosen(value: Object, fields: str) -> Object:
    """Keep the fields that were asked for; a list on the way is passed through."""
    made: Object = {}
    for path in fields.split(","):
        _choose(value, made, path.split("."))
    return made


def _choose(source: Any, target: Object, path: list[str]) -> None:
    first, rest = path[0], path[1:]
    if not isinstance(source, dict) or first not in source:
        return
    if not rest:
        target[first] = source[first]
    elif isinstance(source[first], list):
        made = target.setdefault(first, [{} for _ in source[first]])
        for one, into in zip(source[first], made, strict=True):
            _choose(one, into, rest)
    elif isinstance(source[first], dict):
        _choose(source[first], target.setdefault(first, {}), rest)


def _named(query: dict[str, str]) -> str:
    match = re.fullmatch(r"metadata\.name=([^,]+)", query.get("listOptions.fieldSelector", ""))
    return match[1] if match else ""


@contextmanager
def serving_argo(**options: Any) -> Iterator[ArgoServer]:
    """Run a server for the length of a ``with``; what did not fit the description is an error at its end."""
    server = ArgoServer(**options).start()
    try:
        yield server
    finally:
        server.stop()
    assert not server.unfit, "\n".join(server.unfit[:10])
