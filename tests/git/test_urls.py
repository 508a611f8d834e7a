"""One reading of a repository's URL, for the credentials that open it and for the page of a commit."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_pipeops.exceptions import InvalidInput
from airflow_pipeops.git.credentials import repository_url
from airflow_pipeops.git.forges import commit_url
from airflow_pipeops.git.urls import RepositoryUrl, parse

HOSTS = st.from_regex(r"[a-z][a-z0-9-]{0,10}(\.[a-z]{2,5}){0,2}", fullmatch=True)
PATHS = st.from_regex(r"[a-z~][a-z0-9_/-]{0,20}(\.git)?", fullmatch=True)


@pytest.mark.parametrize(
    ("url", "read"),
    [
        ("https://host/x.git", RepositoryUrl("https", "host", None, "/x.git")),
        ("https://u@Host:8/x", RepositoryUrl("https", "host", 8, "/x", "u")),
        ("https://u:p@host/x", RepositoryUrl("https", "host", None, "/x", "u", "p")),
        ("git@host:team/x.git", RepositoryUrl("ssh", "host", None, "team/x.git", "git")),
        ("host:x", RepositoryUrl("ssh", "host", None, "x")),
        ("ssh://git@host:22/x", RepositoryUrl("ssh", "host", 22, "/x", "git")),
        ("http://[::1]:3000/x", RepositoryUrl("http", "::1", 3000, "/x")),
        ("file:///x", RepositoryUrl("file", "", None, "/x")),
        ("/srv/x", RepositoryUrl("file", "", None, "/srv/x")),
        ("oci://ghcr.io/a/b", RepositoryUrl("oci", "ghcr.io", None, "/a/b")),
    ],
)
def test_what_is_read(url: str, read: RepositoryUrl) -> None:
    assert parse(url) == read


@pytest.mark.parametrize(
    "url",
    ["", "-oProxyCommand=x", "ext::sh -c x", "fd::3", "host:x::y", "relative/path", "http://a b/x", "https://[broken",
     "https://host:port/x", "https://host:99999/x", "host:", "git@host:\nx"],
)  # fmt: skip
def test_what_is_none(url: str) -> None:
    assert parse(url) is None
    assert commit_url(url, "0" * 40) == ""
    with pytest.raises(InvalidInput):
        repository_url(url)


@pytest.mark.parametrize(
    ("url", "origin"),
    [
        ("https://u:p@host/x", "https://host"),
        ("http://host:3000/x", "http://host:3000"),
        ("http://u@[::1]:3000/x", "http://[::1]:3000"),
    ],
)
def test_the_origin_opens_nothing(url: str, origin: str) -> None:
    read = parse(url)
    assert read is not None
    assert read.origin == origin
    assert "p" not in repr(read).partition("password")[2]


@given(st.text(max_size=60))
def test_no_text_breaks_it(url: str) -> None:
    read = parse(url)
    assert read is None or read.scheme
    commit_url(url, "0" * 40)
    with contextlib.suppress(InvalidInput):
        assert repository_url(url) == url


@given(HOSTS, PATHS)
def test_both_ways_to_write_ssh_are_one(host: str, path: str) -> None:
    short, long = parse(f"git@{host}:{path}"), parse(f"ssh://git@{host}/{path}")
    assert short is not None
    assert long is not None
    assert (short.scheme, short.user, short.host, short.path) == (
        long.scheme,
        long.user,
        long.host,
        long.path.removeprefix("/"),
    )
