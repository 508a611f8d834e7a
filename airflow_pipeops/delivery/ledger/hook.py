"""Connection to the key that the ledger is signed with."""

from __future__ import annotations

from typing import Any

from airflow.sdk import BaseHook

from airflow_pipeops.base.connections import only, read, without_id
from airflow_pipeops.base.keys import private_key
from airflow_pipeops.delivery.ledger.signatures import Signer
from airflow_pipeops.exceptions import InvalidInput


class SigningKeyHook(BaseHook):
    """An Ed25519 key.

    :param signing_key_conn_id: connection of type ``pipeops_signing_key``.
    """

    conn_name_attr = "signing_key_conn_id"
    default_conn_name = "pipeops_signing_key"
    conn_type = "pipeops_signing_key"
    hook_name = "Signing key"

    def __init__(self, signing_key_conn_id: str = default_conn_name, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.signing_key_conn_id = signing_key_conn_id

    def get_conn(self) -> Signer:
        """Read the key.

        :return: what signs.
        :raises InvalidInput: if there is none, or it is of another kind.
        """
        connection = read(self.signing_key_conn_id, self.conn_type)
        extra = connection.extra_dejson
        only(self.signing_key_conn_id, extra, "private_key")
        pasted = str(extra.get("private_key") or "")
        if not pasted:
            raise InvalidInput(
                f"connection {self.signing_key_conn_id!r} has no private key",
                field=f"{self.signing_key_conn_id}.private_key",
                remedy="Make one by: openssl genpkey -algorithm ed25519",
            )
        pem = private_key("private_key", pasted, "the signing key")
        return Signer.read(connection.login or "airflow-pipeops", pem)

    def test_connection(self) -> tuple[bool, str]:
        """Read the key, and show the public one."""
        try:
            return True, f"The public key is {self.get_conn().public}"
        except Exception as error:
            return False, without_id(self.signing_key_conn_id, error)


def configured() -> Signer | None:
    """Return what signs, by ``[pipeops] ledger_key_conn_id``; none where nothing is configured."""
    from airflow_pipeops.base.configuration import ledger_key

    conn_id = ledger_key()
    return SigningKeyHook(conn_id).get_conn() if conn_id else None
