"""Notes as the tools of Go's checksum database sign them, and envelopes that securesystemslib opens."""

from __future__ import annotations

import json
import subprocess
from base64 import b64decode

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from securesystemslib.dsse import Envelope
from securesystemslib.exceptions import VerificationError
from securesystemslib.signer import SSlibKey

from airflow_pipeops.base.keys import private_key
from airflow_pipeops.delivery.ledger.signatures import PublicKey, Signer, opened, signed_by
from airflow_pipeops.exceptions import InvalidInput

#: From the documentation of golang.org/x/mod/sumdb/note.
NEUMANN = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW"
SEED = b64decode("AYEKFALVFGyNhPJEMzD1QIDr+Y7hfZx09iUvxdXHKDFz")[1:]
TEXT = "If you think cryptography is the answer to your problem,\nthen you don't know what your problem is.\n"
NOTE = (
    TEXT
    + "\n— PeterNeumann x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM=\n"
)


def test_a_note_is_that_of_the_standard() -> None:
    signer = Signer("PeterNeumann", Ed25519PrivateKey.from_private_bytes(SEED))
    assert str(signer.public) == NEUMANN
    assert signer.note(TEXT) == NOTE
    assert signed_by(NOTE, [PublicKey.read(NEUMANN)]) == (TEXT, ["PeterNeumann"])


def test_a_note_that_was_altered_is_signed_by_nobody() -> None:
    key = PublicKey.read(NEUMANN)
    assert signed_by(NOTE.replace("don't", "do"), [key])[1] == []
    assert signed_by(NOTE.replace("PeterNeumann", "Somebody"), [key])[1] == []
    assert signed_by(TEXT, [key]) == (TEXT, [])
    other = Signer("PeterNeumann", Ed25519PrivateKey.generate())
    assert signed_by(other.note(TEXT), [key])[1] == []


@pytest.mark.parametrize("given", ["", "a+b+c", NEUMANN[:-4] + "AAAA", NEUMANN.replace("c74f", "c74e")])
def test_a_public_key_that_was_mistyped_is_refused(given: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        PublicKey.read(given)
    assert caught.value.field == "key"


def test_an_envelope_is_opened_by_a_tool_of_others() -> None:
    key = Ed25519PrivateKey.generate()
    signer = Signer("pipeops.example.com", key)
    payload = json.dumps({"a": "é"}).encode()
    envelope = json.loads(json.dumps(signer.envelope(payload)))
    public = SSlibKey.from_crypto(key.public_key(), keyid=signer.public.id)
    theirs = Envelope.from_dict(json.loads(json.dumps(envelope)))
    theirs.verify([public], 1)
    assert theirs.payload == opened(envelope, PublicKey.read(str(signer.public))) == payload
    theirs.payload = b"{}"
    with pytest.raises(VerificationError):
        theirs.verify([public], 1)
    with pytest.raises(InvalidInput, match="not signed by"):
        opened({**envelope, "payload": "e30="}, signer.public)
    with pytest.raises(InvalidInput):
        opened({"payload": "?"}, signer.public)


@pytest.mark.parametrize("how", ["openssl", "ssh-keygen"])
def test_keys_are_read_as_the_usual_tools_make_them(tmp_path, how: str) -> None:
    path = tmp_path / "key"
    made = {
        "openssl": ["openssl", "genpkey", "-algorithm", "ed25519", "-out", str(path)],
        "ssh-keygen": ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(path)],
    }
    subprocess.run(made[how], check=True)
    pasted = path.read_text().replace("\n", " ")
    signer = Signer.read("n", private_key("private_key", pasted))
    assert signed_by(signer.note("a\n"), [signer.public])[1] == ["n"]


def test_another_kind_of_key_is_named(tmp_path) -> None:
    path = tmp_path / "key"
    subprocess.run(["openssl", "genpkey", "-algorithm", "X25519", "-out", str(path)], check=True)
    with pytest.raises(InvalidInput, match="no Ed25519 key, but X25519") as caught:
        Signer.read("n", path.read_text())
    assert "openssl genpkey" in caught.value.remedy
    with pytest.raises(InvalidInput, match="the name of a key"):
        Signer("with space", Ed25519PrivateKey.generate())
