"""The hook: from a connection to a repository, and the answer to "Test"."""

from __future__ import annotations

import asyncio
import json

import pytest

from airflow_pipeops.exceptions import InvalidInput, NotFound
from airflow_pipeops.git.ancestry import contains_commit
from airflow_pipeops.git.hook import GitHook, repository
from airflow_pipeops.provider.metadata import get_provider_info
from tests.git.conftest import git

KEY = "-----BEGIN RSA PRIVATE KEY-----\nbm8ga2V5IGF0IGFsbA==\n-----END RSA PRIVATE KEY-----\n"


@pytest.fixture
def connect(monkeypatch):
    """Define a connection through the environment, as Airflow reads it."""

    def define(conn_id: str, **fields) -> None:
        monkeypatch.setenv(
            f"AIRFLOW_CONN_{conn_id.upper()}", json.dumps({"conn_type": "git_repository", **fields})
        )

    return define


def test_all_fields_arrive(connect):
    extra = {
        "branch": "live",
        "author_name": "Bot",
        "author_email": "b@x",
        "private_key": KEY,
        "known_hosts": "h",
        "ca_file": "/c",
        "timeout": 90,
    }
    connect("repo", host="https://host/team/x.git", login="u", password="p4ss", extra=extra)
    client = GitHook("repo").get_conn()
    assert (client.url, client.branch, client.author.name, client.author.email) == (
        "https://host/team/x.git",
        "live",
        "Bot",
        "b@x",
    )
    assert client._git.timeout == 90
    found = client._git.credentials
    assert (found.username, found.password, found.private_key, found.known_hosts, found.ca_file) == (
        "u",
        "p4ss",
        KEY,
        "h",
        "/c",
    )
    assert "p4ss" not in repr(client) + repr(found)


def test_a_uri_in_parts(connect):
    connect("repo", host="host/team/x.git", schema="https", port=8443)
    assert GitHook("repo").get_conn().url == "https://host:8443/team/x.git"
    connect("repo", host="host/team/x.git", schema="https")
    assert GitHook("repo").get_conn().url == "https://host/team/x.git"


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({}, "repo.host"),
        ({"host": "ftp://x/y"}, "repo.host"),
        ({"host": "/x", "extra": {"branch": "a b"}}, "repo.branch"),
        ({"host": "/x", "extra": {"author_name": "<x>"}}, "repo.author_name"),
        ({"host": "/x", "password": "s3cret\n"}, "repo.password"),
        ({"host": "/x", "extra": {"timeout": "soon"}}, "repo.timeout"),
        ({"host": "/x", "extra": {"timeout": 0}}, "repo.timeout"),
        ({"host": "/x", "extra": {"ca_fil": "/c"}}, "repo.ca_fil"),
        ({"host": "/x", "extra": {"private_key": "s3cret"}}, "repo.private_key"),
    ],
)
def test_a_bad_field_is_named(connect, fields, field):
    connect("repo", **fields)
    with pytest.raises(InvalidInput, match="connection 'repo'") as caught:
        GitHook("repo").get_conn()
    assert caught.value.field == field
    assert "s3cret" not in str(caught.value)


def test_the_button(connect, remote, http_git, tmp_path):
    connect("repo", host=str(remote.path))
    assert GitHook("repo").test_connection() == (
        True,
        f"Branch main of {remote.path} is at {remote.tip()[:12]}; it may be written",
    )
    connect("repo", host=str(tmp_path / "none"))
    good, said = GitHook("repo").test_connection()
    assert not good
    assert "not found" in said
    connect("repo", host=http_git.url, login="airflow", password="wr0ng")
    good, said = GitHook("repo").test_connection()
    assert not good
    assert "refused" in said
    assert "wr0ng" not in said


def test_without_blocking(connect, remote):
    connect("repo", host=str(remote.path))

    async def look() -> str:
        return await (await GitHook("repo").aget_conn()).atip()

    assert asyncio.run(look()) == remote.tip()


def test_the_form_and_the_hook_agree():
    declared = {item["connection-type"]: item for item in get_provider_info()["connection-types"]}[
        "git_repository"
    ]
    assert declared["hook-class-name"] == f"{GitHook.__module__}.{GitHook.__name__}"
    assert declared["hook-name"] == GitHook.hook_name
    assert GitHook.conn_type == "git_repository"

    class Fields(dict):
        def get(self, key, default=None):
            asked.add(key)
            return super().get(key, default)

    asked: set[str] = set()
    connection = type(
        "C",
        (),
        {
            "host": "/x",
            "login": None,
            "password": None,
            "schema": None,
            "port": None,
            "extra_dejson": Fields(),
        },
    )
    repository("repo", connection)
    assert asked == set(declared["conn-fields"])


def test_a_commit_that_was_never_pushed_is_in_no_other_one(connect, remote):
    connect("repo", host=str(remote.path))
    first = remote.tip()
    second = remote.commit("second")
    local = remote.commit("third", push=False)
    assert contains_commit("repo", first, second)
    assert not contains_commit("repo", second, first)
    assert not contains_commit("repo", local, second)
    with pytest.raises(NotFound):
        contains_commit("repo", first, local)
    git("push", "--quiet", "origin", "HEAD:main", cwd=remote.work)
    assert contains_commit("repo", second, local)


def test_a_mistyped_field_is_named_with_what_comes_near(connect):
    connect("repo", host="/x", extra={"know_hosts": "x"})
    with pytest.raises(InvalidInput, match=r"'know_hosts'.*Did you mean 'known_hosts'"):
        GitHook("repo").get_conn()
    connect("repo", host="/x", extra={"ca_file": "", "branch": None})  # as a form leaves them
    assert GitHook("repo").get_conn().branch == "main"
