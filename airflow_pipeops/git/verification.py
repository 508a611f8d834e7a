"""What ``airflow pipeops verify`` does: hold the ledger against itself, and against what left it by commits."""

from __future__ import annotations

from typing import Any

from airflow_pipeops.delivery.commands.answers import (
    NOT_WELL,
    WELL,
    connections_of_the_database,
    rows,
    shown,
)
from airflow_pipeops.delivery.ledger.checkpoints import TRAILER, newest, of_trailer
from airflow_pipeops.delivery.ledger.signatures import PublicKey
from airflow_pipeops.delivery.ledger.verify import Verified, verify
from airflow_pipeops.exceptions import InvalidInput
from airflow_pipeops.git.repository import GitRepository


def committed(repository: GitRepository) -> list[tuple[str, str]]:
    """Read the checkpoints that the commits of a branch carry.

    :param repository: of desired state.
    :return: where each was found, and the note; one that cannot be read as it is written.
    """
    found = []
    for sha, value in repository.trailers(TRAILER):
        label = f"commit {sha[:12]} of {repository.display_url}"
        try:
            found.append((label, of_trailer(value)))
        except InvalidInput:
            found.append((label, value))
    return found


def verified(conn_ids: list[str], key: str = "") -> Verified:
    """Verify the configured ledger.

    :param conn_ids: connections of Git repositories whose commits carry checkpoints.
    :param key: public key that signs checkpoints; by default that of ``[pipeops] ledger_key_conn_id``.
    :return: what was found.
    """
    from airflow_pipeops.base.configuration import accepted_assets, index_path, ledger_path
    from airflow_pipeops.delivery.ledger.database import Events
    from airflow_pipeops.delivery.ledger.files import Ledger
    from airflow_pipeops.delivery.ledger.hook import configured
    from airflow_pipeops.delivery.ledger.index import Index
    from airflow_pipeops.git.hook import GitHook

    signer = configured()
    keys = [PublicKey.read(key)] if key else [signer.public] if signer else []
    ledger, index = Ledger.open(ledger_path()), Index.open(index_path())
    checkpoints = [found for conn_id in conn_ids for found in committed(GitHook(conn_id).get_conn())]
    if note := newest(ledger):
        checkpoints.append(("the ledger's own checkpoint", note))
    try:
        return verify(
            ledger,
            checkpoints=checkpoints,
            keys=keys,
            kept=index.kept,
            events=Events.of_airflow(),
            accepted=accepted_assets(),
        )
    finally:
        index.close()


def verify_command(args: Any) -> int:
    """Verify and print; what is not as it was makes the code 1.

    :param args: with ``git_conn_id`` (a list or none), ``key`` and ``output``.
    :return: the code that the command ends with.
    """
    with connections_of_the_database():
        found = verified(list(args.git_conn_id or ()), args.key or "")
    if args.output == "plain":
        told = [("not as it was", one) for one in found.findings] + [
            ("not believed", one) for one in found.doubts
        ]
        rows("", [{"how": how, **one.to_json()} for how, one in told], "plain", empty="")
    elif not shown({"good": found.good, **found.to_json()}, args.output):
        print(report(found))
    return WELL if found.good else NOT_WELL


def report(found: Verified) -> str:
    """Return what was found, a line each."""
    lines = [f"{found.size} entries, root {found.root}"]
    lines += [f"agrees with {label}" for label in found.agreeing]
    lines += [f"not believed: {doubt}" for doubt in found.doubts]
    lines += [f"NOT AS IT WAS: {finding}" for finding in found.findings]
    lines.append("Nothing was changed, as far as this can tell." if found.good else "The ledger was changed.")
    return "\n".join(lines)
