"""What a check found, and what is to be made of it. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal
from urllib.parse import urlsplit

from airflow_pipeops.base.serialisation import JsonForm

#: ``good``; ``bad`` needs somebody; ``unknown`` could not be found out.
Standing = Literal["good", "bad", "unknown"]


@dataclass(frozen=True)
class Check(JsonForm):
    """What was found of one thing.

    :param about: what was looked at.
    :param standing: ``good``, ``bad`` or ``unknown``.
    :param found: in one sentence.
    :param remedy: what to do, where it is not good.
    """

    about: str
    standing: Standing
    found: str
    remedy: str = ""


def versions(lacking: Mapping[str, tuple[str, str]], known: Mapping[str, str]) -> Check:
    """Judge the libraries.

    :param lacking: name of a library that does not fit -> what is needed, and what is there (empty: nothing).
    :param known: name -> version of those that are told when all fit.
    :return: the check.
    """
    if not lacking:
        return Check("versions", "good", ", ".join(f"{name} {version}" for name, version in known.items()))
    said = "; ".join(
        f"{name} is {there or 'not installed'}, and {needed or 'any version'} is needed"
        for name, (needed, there) in lacking.items()
    )
    return Check(
        "versions",
        "bad",
        said,
        "Install airflow-pipeops with Airflow's constraints: see docs/compatibility.md.",
    )


def plugin(registered: bool, errors: Mapping[str, str]) -> Check:
    """Judge whether Airflow has loaded the plugin.

    :param registered: whether it is among Airflow's plugins.
    :param errors: what Airflow says of plugins that it could not load, by their source.
    :return: the check.
    """
    ours = {source: said for source, said in errors.items() if "pipeops" in f"{source} {said}".lower()}
    if registered and not ours:
        return Check("plugin", "good", "Airflow has loaded it.")
    said = "; ".join(f"{source}: {why}" for source, why in ours.items()) or "Airflow does not know it"
    return Check(
        "plugin", "bad", said, "Install airflow-pipeops where the API server runs, and restart that."
    )


def triggerers(alive: int | None, capacity: int, waiting: int | None) -> Iterable[Check]:
    """Judge the triggerers.

    :param alive: how many there are; none if nobody can tell.
    :param capacity: triggers that one takes.
    :param waiting: triggers that there are now; none if nobody can tell.
    :return: the checks.
    """
    if alive is None or waiting is None:
        yield Check("triggerer", "unknown", "Airflow's database cannot be read.", "Run airflow db check.")
    elif not alive:
        yield Check(
            "triggerer",
            "bad",
            "None is alive: no wait that is deferred ends, and no watcher sees anything.",
            "Start airflow triggerer.",
        )
    else:
        yield Check("triggerer", "good", f"{alive} alive, {waiting} triggers.")
        if waiting > 0.8 * alive * capacity:
            yield Check(
                "triggerer capacity",
                "bad",
                f"{waiting} triggers, and {alive} x {capacity} places: what is beyond them is not started.",
                "Raise [triggerer] capacity, or start another triggerer: see docs/scale.md.",
            )
        else:
            yield Check("triggerer capacity", "good", f"{waiting} triggers in {alive} x {capacity} places.")


def routes(base_url: str, server: int | None, ours: int | None, bare: int | None) -> Check:
    """Judge whether the routes of the plugin can be reached at the address that people use.

    :param base_url: of the API server, as it is configured.
    :param server: the status of Airflow's own version, below it; none if nobody answered.
    :param ours: the status of a route of the plugin, below it, asked without a login; none if nobody answered.
    :param bare: the same without the path of the base URL, where it has one.
    :return: the check.
    """
    path = urlsplit(base_url).path.rstrip("/")
    if server is None:
        return Check(
            "routes",
            "unknown",
            f"Nobody answers at {base_url}.",
            "Start airflow api-server, or set [api] base_url to the address that people use.",
        )
    if ours in (401, 403):
        return Check("routes", "good", f"{base_url}/pipeops answers, and asks for a login.")
    if ours == 200:
        return Check(
            "routes", "bad", f"{base_url}/pipeops answers without a login.", "Report it: see SECURITY.md."
        )
    if ours == 404 and path and bare in (401, 403):
        return Check(
            "routes",
            "bad",
            f"The plugin is mounted at /pipeops, and not below {path}.",
            f"Set [api] base_url to the address with {path}, on the API server too, and restart it.",
        )
    if ours == 404 and path and server == 200:
        return Check(
            "routes",
            "bad",
            f"Airflow answers below {path}, and the plugin does not: a proxy that strips {path} breaks the applications"
            " of plugins, and nothing else.",
            f"Let the proxy pass {path} on, as Airflow's documentation of running behind a proxy says.",
        )
    if ours == 404:
        return Check(
            "routes",
            "bad",
            f"{base_url} answers, and has no /pipeops.",
            "Install airflow-pipeops where the API server runs, and restart that.",
        )
    return Check(
        "routes", "unknown", f"{base_url}/pipeops answered {ours}.", "Look into the API server's log."
    )


def connection(conn_id: str, conn_type: str, good: bool, said: str) -> Check:
    """Judge a connection by its own test.

    :param conn_id: which one.
    :param conn_type: its type.
    :param good: whether the test found it usable.
    :param said: what the test said, with the permissions that lack.
    :return: the check.
    """
    remedy = "" if good else f"Mend connection {conn_id!r}: see docs/connections.md."
    return Check(f"connection {conn_id} ({conn_type})", "good" if good else "bad", said, remedy)


def missing(conn_id: str, option: str, why: str) -> Check:
    """Judge a connection that was named, and was not found.

    :param conn_id: which one.
    :param option: the setting that names it; empty for who asks.
    :param why: nobody can tell; empty if it is not there.
    :return: the check.
    """
    about, it = f"connection {conn_id}", f"[pipeops] {option} names it, and it" if option else "It"
    if why:
        return Check(about, "unknown", f"{it} cannot be looked for: {why}", "Run it with --verbose.")
    remedy = f"Make connection {conn_id!r}: see docs/connections.md."
    return Check(about, "bad", f"{it} is not there.", remedy)


def ledger(where: str, entries: int | None, behind: bool | None, why: str) -> Check:
    """Judge the ledger.

    :param where: it is kept.
    :param entries: in its index; none if there is no index.
    :param behind: whether Airflow's database has what it has not; none if nobody can tell.
    :param why: nobody can tell.
    :return: the check.
    """
    remedy = "Run airflow pipeops ledger ingest, and see that an API server with this provider runs."
    if entries is None:
        return Check("ledger", "bad", f"There is none at {where} yet. {why}".strip(), remedy)
    if behind is None:
        return Check(
            "ledger", "unknown", f"{entries} entries at {where}. {why}".strip(), "Run airflow db check."
        )
    if behind:
        return Check("ledger", "bad", f"{entries} entries at {where}; events are not taken up yet.", remedy)
    return Check("ledger", "good", f"{entries} entries at {where}; nothing is left to take up.")


def evidence(uri: str, configured: bool, why: str) -> Check:
    """Judge where evidence is kept.

    :param uri: of the folder.
    :param configured: whether somebody has chosen it.
    :param why: it cannot be used; empty if it can.
    :return: the check.
    """
    if why:
        return Check(
            "evidence",
            "bad",
            f"{uri} cannot be used: {why}",
            "Set [pipeops] evidence_uri to a store that all can reach.",
        )
    if not configured:
        return Check(
            "evidence",
            "good",
            f"{uri}, a folder of this machine: it suits one machine only. [pipeops] evidence_uri names another place.",
        )
    return Check("evidence", "good", f"{uri} can be used.")
