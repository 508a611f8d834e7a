"""A Git server with a password, as the tests of Git have it."""

from tests.git.conftest import http_git, remote

__all__ = ["http_git", "remote"]
