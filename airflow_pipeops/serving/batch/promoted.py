"""Which version is promoted: what the desired state in Git and the registry say, where they say the same."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from airflow_pipeops.exceptions import Conflict, InvalidInput, NotFound
from airflow_pipeops.serving.batch.manifest import Pinned

if TYPE_CHECKING:
    from airflow_pipeops.models.registry import ModelVersion


def agreed(
    model: str,
    wanted: Mapping[str, Any],
    named: ModelVersion | None,
    *,
    alias: str,
    where: str,
    commit: str,
    at: str,
) -> Pinned:
    """Return the version that both name. Pure.

    :param model: its name.
    :param wanted: what the desired state says: ``sha256``, and ``version`` where it says that, too.
    :param named: what the registry says.
    :param alias: of the version there.
    :param where: in the desired state, for the error.
    :param commit: of the desired state.
    :param at: the present time.
    :return: the version.
    :raises InvalidInput: if the desired state names no digest.
    :raises NotFound: if the registry has no such alias.
    :raises Conflict: if they do not say the same; that may pass, where a promotion is under way.
    """
    digest = str(wanted.get("sha256") or "").removeprefix("sha256:")
    if not digest:
        raise InvalidInput(
            f"the desired state names no model: {where} is empty",
            field="digest_at",
            value=where,
            remedy="Name the path of the value that a promotion sets.",
        )
    if named is None:
        raise NotFound(
            f"model {model!r} has no {alias!r} in the registry, and Git wants {digest[:12]} ({where})",
            remedy="Set the alias to what is promoted, or name the alias that a promotion sets.",
        )
    version = str(wanted.get("version") or "")
    if named.sha256 != digest or (version and version != named.version):
        of = f"version {version}, " if version else ""
        raise Conflict(
            f"Git and the registry disagree about what is promoted of {model!r}: Git wants {of}{digest[:12]} "
            f"({where} at {commit[:7]}), and {alias!r} is version {named.version}, {named.sha256[:12]}",
            remedy="Wait until the promotion has ended. If none is under way, set one of them right: nothing is scored.",
        )
    return Pinned(
        model, named.version, named.sha256, named.artifact_uri, named.reference_uri or "", commit, at
    )
