"""The authorities of the machine are read once, and again when they may be others."""

from __future__ import annotations

import os
import shutil
import ssl
from pathlib import Path

import certifi
import pytest

from airflow_pipeops.base.authorities import authorities
from airflow_pipeops.kubernetes.kubeconfig import Endpoint, _verify


def test_all_clients_share_what_was_read() -> None:
    found = authorities()
    assert authorities(True) is found
    assert found.verify_mode is ssl.CERT_REQUIRED
    assert found.check_hostname
    assert found.cert_store_stats()["x509_ca"] > 50


@pytest.mark.parametrize("told", [False, "ca.pem", ssl.create_default_context(cadata=None)], ids=type)
def test_what_a_client_was_told_otherwise_holds(told: object) -> None:
    assert authorities(told) is told


def test_a_file_that_has_changed_is_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = authorities()
    file = tmp_path / "authorities.pem"
    shutil.copyfile(certifi.where(), file)
    monkeypatch.setenv("SSL_CERT_FILE", str(file))
    many = authorities()
    assert many is not before
    assert authorities() is many
    first = file.read_text().partition("-----END CERTIFICATE-----")
    file.write_text(first[0] + first[1] + "\n")
    os.utime(file, ns=(1, 1))
    assert authorities().cert_store_stats()["x509_ca"] == 1
    monkeypatch.delenv("SSL_CERT_FILE")
    assert authorities().cert_store_stats() == before.cert_store_stats()


def test_clusters_see_another_file_though_it_is_as_old(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As the files of an image are, which are often all of one moment."""
    whole = Path(certifi.where()).read_text(encoding="utf-8")
    certificates = [
        f"{one}-----END CERTIFICATE-----\n" for one in whole.split("-----END CERTIFICATE-----")[:-1]
    ]
    for count in (1, 2):
        file = tmp_path / f"{count}.pem"
        file.write_text("".join(certificates[:count]), encoding="utf-8")
        os.utime(file, ns=(1, 1))
        monkeypatch.setenv("SSL_CERT_FILE", str(file))
        monkeypatch.setenv("SSL_CERT_DIR", str(tmp_path / "none"))
        assert _verify(Endpoint("https://one")).cert_store_stats()["x509_ca"] == count


def test_clusters_share_them_too_unless_they_name_others_or_are_not_checked(tmp_path: Path) -> None:
    one, other = Endpoint("https://one", "Bearer x"), Endpoint("https://other")
    assert _verify(one) is _verify(other)
    unchecked = _verify(Endpoint("https://one", verify=False))
    assert unchecked.verify_mode is ssl.CERT_NONE
    assert _verify(one).verify_mode is ssl.CERT_REQUIRED
    assert _verify(Endpoint("https://one", ca_file=certifi.where())) is not _verify(one)
