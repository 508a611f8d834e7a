"""The repository client against real repositories and real failures."""

# ruff: noqa: E501
from __future__ import annotations

import asyncio
import base64
import fcntl
import logging
import os
import shutil
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path

import pytest
import yaml

from airflow_pipeops.base import retries as retry
from airflow_pipeops.exceptions import (
    AccessDenied,
    Conflict,
    InvalidInput,
    NotFound,
    SystemFailure,
    Unreachable,
)
from airflow_pipeops.git.commits import act_key, commit_message
from airflow_pipeops.git.credentials import Credentials, environment, repository_url
from airflow_pipeops.git.repository import Author, GitRepository, branch_name

FILE = "apps/web/kustomization.yaml"
DIGEST = "images[name=web].digest"
COUNT = "replicas[name=web].count"
KEY = "-----BEGIN RSA PRIVATE KEY-----\nbm8ga2V5IGF0IGFsbA==\n-----END RSA PRIVATE KEY-----\n"
REAL_GIT = subprocess.run(["which", "git"], capture_output=True, text=True, check=True).stdout.strip()


def _object(folder: Path, remote, name: str) -> Path:
    """Return the file of an object; of its pack, where it is in one."""
    sha = subprocess.run(
        [REAL_GIT, "rev-parse", name], cwd=remote.path, capture_output=True, text=True, check=True
    ).stdout.strip()
    loose = folder / "objects" / sha[:2] / sha[2:]
    return loose if loose.exists() else next((folder / "objects" / "pack").glob("*.pack"))


def _remove(path: Path) -> None:
    path.chmod(0o600)
    path.unlink()


def _write(path: Path, content: bytes) -> None:
    path.chmod(0o600)
    path.write_bytes(content)


def _file_in_place(folder: Path, remote) -> None:
    shutil.rmtree(folder)
    folder.write_text("not a repository", encoding="utf-8")


#: What may happen to a copy: a power cut, a full disk, a clean-up of temporary files, a person.
DAMAGES = {
    "tip missing": lambda folder, remote: _remove(_object(folder, remote, "main")),
    "tip emptied": lambda folder, remote: _write(_object(folder, remote, "main"), b""),
    "older commit missing": lambda folder, remote: _remove(_object(folder, remote, "main~2")),
    "tree missing": lambda folder, remote: _remove(_object(folder, remote, "main^{tree}")),
    "older tree missing": lambda folder, remote: _remove(_object(folder, remote, "main~1:dir1")),
    "blob missing": lambda folder, remote: _remove(_object(folder, remote, "main~1:dir1/a.txt")),
    "blob torn": lambda folder, remote: _write(_object(folder, remote, f"main:{FILE}"), b"x\x9c torn"),
    "all objects gone": lambda folder, remote: shutil.rmtree(folder / "objects"),
    "bad config": lambda folder, remote: (folder / "config").write_text("[core\nnonsense = = "),
    "no config": lambda folder, remote: (folder / "config").write_text(
        "[core]\n\trepositoryformatversion = 99\n"
    ),
    "bad HEAD": lambda folder, remote: (folder / "HEAD").write_text("garbage"),
    "bad ref": lambda folder, remote: (folder / "refs/pipeops/heads/main").write_text("garbage"),
    "empty ref": lambda folder, remote: (folder / "refs/pipeops/heads/main").write_text(""),
    "refs gone": lambda folder, remote: shutil.rmtree(folder / "refs"),
    "a file in its place": _file_in_place,
    "an empty folder in its place": lambda folder, remote: (shutil.rmtree(folder), folder.mkdir()),
    "a link to nowhere in its place": lambda folder, remote: (
        shutil.rmtree(folder),
        folder.symlink_to("/nowhere"),
    ),
}


@pytest.fixture(autouse=True)
def _short_pauses(monkeypatch):
    real = retry.pause
    for module in ("base.retries", "git.commits"):
        monkeypatch.setattr(f"airflow_pipeops.{module}.pause", lambda *a, **k: real(*a, **k) / 20)


@pytest.fixture
def fake_git(tmp_path, monkeypatch):
    """Put a wrapper before the real git on PATH."""

    def install(script: str) -> Path:
        folder = tmp_path / "bin"
        folder.mkdir(exist_ok=True)
        (folder / "git").write_text(
            f'#!/bin/sh\nSTATE={folder}\nGIT={REAL_GIT}\n{script}\nexec "$GIT" "$@"\n'
        )
        (folder / "git").chmod(0o755)
        monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
        return folder

    return install


def set_digest(client, value="new", key="dag/run/task/-1", **options):
    return client.commit_edit(FILE, {DIGEST: value}, f"Deploy {value}", key=key, **options)


class TestRead:
    def test_tip_describe_and_read(self, remote, client):
        sha = remote.commit("second\n\nwith a body", **{"a.txt": "x"})
        assert client.tip() == client.resolve() == client.resolve("main") == client.resolve(sha[:8]) == sha
        found = client.describe(sha)
        assert (found.sha, found.author, found.subject) == (sha, "Ada <ada@example.com>", "second")
        assert found.parents == (client.describe(f"{found.parents[0]}").sha,)
        assert client.read("a.txt") == b"x"
        assert client.is_ancestor(found.parents[0], sha)
        assert not client.is_ancestor(sha, found.parents[0])
        assert client.paths_changed(found.parents[0], sha) == ("a.txt",)

    def test_a_time_in_utc_is_one_that_every_python_reads(self, remote, tmp_path, fake_git, monkeypatch):
        """Git writes Z for it since 2.45, and Python reads that since 3.11."""
        monkeypatch.setenv("GIT_COMMITTER_DATE", "2026-01-31T10:00:00+0000")
        sha = remote.commit("second", **{"a.txt": "x"})
        fake_git('case "$*" in *%cI*) "$GIT" "$@" | sed "s/+00:00/Z/"; exit;; esac')
        assert remote.client(tmp_path / "cache").describe(sha).time == "2026-01-31T10:00:00+00:00"

    def test_a_folder_has_one_tree_until_something_in_it_changes(self, remote, client):
        first = remote.commit("code", **{"app/a.txt": "x"})
        second = remote.commit("elsewhere", **{"other.txt": "x"})
        third = remote.commit("code again", **{"app/a.txt": "y"})
        assert client.tree(first, "app") == client.tree(second, "./app/") != client.tree(third, "app")
        assert client.tree(first) != client.tree(second)
        for folder in ("none", "other.txt"):
            with pytest.raises(NotFound, match=f"has no folder '{folder}'"):
                client.tree(second, folder)

    def test_other_branches_and_tags(self, remote, client):
        first = remote.tip()
        sha = remote.commit("on a branch", push=False, **{"b.txt": "x"})
        subprocess.run([REAL_GIT, "push", "-q", "origin", "HEAD:feature/x"], cwd=remote.work, check=True)
        subprocess.run(
            [REAL_GIT, "push", "-q", "origin", f"{first}:refs/tags/v1"], cwd=remote.work, check=True
        )
        assert client.tip("feature/x") == client.resolve("feature/x") == sha
        assert client.resolve("v1") == client.tip() == first

    def test_what_is_not_there(self, remote, client, tmp_path):
        for call in (
            lambda: client.tip("none"),
            lambda: client.resolve("none"),
            lambda: client.resolve("0" * 40),
            lambda: client.read("none.yaml"),
            lambda: GitRepository(str(tmp_path / "none"), cache_dir=tmp_path / "c").tip(),
        ):
            with pytest.raises(NotFound):
                call()

    def test_an_empty_repository_says_so(self, client, tmp_path):
        subprocess.run([REAL_GIT, "init", "-q", "--bare", str(tmp_path / "e.git")], check=True)
        with pytest.raises(NotFound, match="no branch 'main'"):
            GitRepository(str(tmp_path / "e.git"), cache_dir=tmp_path / "c").tip()

    def test_a_broken_copy_is_made_anew(self, remote, client, tmp_path):
        client.fetch()
        copy = next(path for path in (tmp_path / "cache").iterdir() if path.is_dir())
        for pack in (copy / "objects").rglob("*"):
            if pack.is_file():
                pack.chmod(0o644)
                pack.write_bytes(b"")
        remote.commit("second", **{"a.txt": "x"})
        assert client.read("a.txt") == b"x"

    @pytest.mark.parametrize("damage", DAMAGES)
    @pytest.mark.parametrize("packed", [False, True], ids=["loose", "packed"])
    def test_whatever_happens_to_the_copy_it_heals(self, remote, tmp_path, damage, packed):
        for number in range(3):
            remote.commit(f"older {number}", **{f"dir{number}__a.txt".replace("__", "/"): f"text {number}"})
        old = remote.tip()
        remote.commit("newer", **{"b.txt": "x"})
        client = remote.client(tmp_path / "cache")
        client.fetch()
        folder = client._cache.directory
        if packed:
            subprocess.run([REAL_GIT, "--git-dir", str(folder), "repack", "-adq"], check=True)
        else:
            unpacked = list((folder / "objects" / "pack").glob("*.pack"))
            for pack in unpacked:
                pack = pack.rename(tmp_path / pack.name)
                subprocess.run(
                    [REAL_GIT, "--git-dir", str(folder), "unpack-objects", "-q"],
                    stdin=pack.open("rb"),
                    check=True,
                )
        DAMAGES[damage](folder, remote)
        assert client.is_ancestor(old, client.fetch())
        assert client.read("dir0/a.txt", old) == b"text 0"
        assert client.describe(old).subject == "older 2"
        client.checkout(old, tmp_path / "out")
        assert (tmp_path / "out" / "dir1" / "a.txt").read_text() == "text 1"
        assert set_digest(client).changed

    def test_a_copy_that_cannot_be_made_names_its_folder(self, remote, tmp_path):
        cache = tmp_path / "cache"
        client = remote.client(cache)
        client.fetch()
        (cache / "x").mkdir()
        client._cache.directory = Path("/proc/pipeops")
        with pytest.raises(SystemFailure, match="local copy of the repository in /proc/pipeops") as caught:
            client.fetch()
        assert "removed at any time" in str(caught.value)

    def test_two_tasks_that_find_the_damage_make_one_new_copy(self, remote, tmp_path):
        clients = [remote.client(tmp_path / "cache") for _ in range(4)]
        tip = clients[0].fetch()
        for path in (clients[0]._cache.directory / "objects").rglob("*"):
            if path.is_file():
                path.unlink()
        with ThreadPoolExecutor(4) as pool:
            assert [*pool.map(lambda one: one.describe(tip).sha, clients)] == [tip] * 4

    def test_a_branch_that_is_not_there_and_a_torn_line_leave_the_copy(self, remote, http_git, tmp_path):
        client = GitRepository(http_git.url, credentials=Credentials(username="airflow", password="s3cret/tok+en"),
                               cache_dir=tmp_path, attempts=1)  # fmt: skip
        client.fetch()
        before = client._cache.directory.stat().st_ino
        with pytest.raises(NotFound):
            client.fetch("no-such-branch")
        http_git.failing[:] = [500] * 9
        with pytest.raises(Unreachable):
            client.fetch()
        assert client._cache.directory.stat().st_ino == before

    def test_a_stale_lock_does_no_harm(self, remote, client, tmp_path):
        client.fetch()
        copy = next(path for path in (tmp_path / "cache").iterdir() if path.is_dir())
        (copy / "refs/pipeops/heads/main.lock").write_text("")
        sha = remote.commit("second")
        assert client.fetch() == sha


class TestCheckout:
    def test_bytes_and_modes(self, remote, client, tmp_path):
        remote.put("run.sh", "#!/bin/sh\n")
        (remote.work / "run.sh").chmod(0o755)
        (remote.work / "link").symlink_to("apps/web")
        sha = remote.commit(
            "more", **{".gitattributes": "* text eol=crlf\n*.txt filter=lfs\n", "x.txt": b"a\nb\n"}
        )
        dest = tmp_path / "out"
        assert client.checkout("main", dest) == sha
        assert (dest / "x.txt").read_bytes() == b"a\nb\n"
        assert (dest / "run.sh").read_bytes() == b"#!/bin/sh\n"
        assert os.access(dest / "run.sh", os.X_OK)
        assert not os.access(dest / FILE, os.X_OK)
        assert (dest / "link/kustomization.yaml").exists()
        assert not (dest / ".git").exists()
        with pytest.raises(InvalidInput, match="not empty"):
            client.checkout(sha, dest)

    @pytest.mark.parametrize("target", ["/etc/passwd", "../../etc/passwd", "apps/../../x"])
    def test_a_link_that_leads_out_is_refused(self, remote, client, tmp_path, target):
        (remote.work / "evil").symlink_to(target)
        remote.commit("evil")
        with pytest.raises(InvalidInput, match="'evil' that leads out"):
            client.checkout("", tmp_path / "out")

    @pytest.mark.parametrize("name", ["..", ".git", ".GIT"])
    def test_a_hostile_tree_is_refused(self, remote, client, tmp_path, name):
        """Such trees cannot be made by git's own commands, but any bytes can be a tree."""
        blob = subprocess.run([REAL_GIT, "hash-object", "-w", "--stdin"], cwd=remote.path, input=b"x", capture_output=True, check=True).stdout  # fmt: skip

        def make(entries: bytes) -> str:
            done = subprocess.run([REAL_GIT, "hash-object", "-w", "--literally", "-t", "tree", "--stdin"], cwd=remote.path, input=entries, capture_output=True, check=True)  # fmt: skip
            return done.stdout.decode().strip()

        inner = make(b"100644 config\0" + bytes.fromhex(blob.decode().strip()))
        tree = make(b"40000 " + name.encode() + b"\0" + bytes.fromhex(inner))
        identity = {"GIT_AUTHOR_NAME": "x", "GIT_AUTHOR_EMAIL": "x", "GIT_COMMITTER_NAME": "x", "GIT_COMMITTER_EMAIL": "x"}  # fmt: skip
        commit = subprocess.run([REAL_GIT, "commit-tree", tree, "-m", "evil"], cwd=remote.path, capture_output=True, text=True, check=True, env={**os.environ, **identity}).stdout.strip()  # fmt: skip
        subprocess.run([REAL_GIT, "update-ref", "refs/heads/main", commit], cwd=remote.path, check=True)
        with pytest.raises(InvalidInput, match="not a path inside"):
            client.checkout("", tmp_path / "deep" / "out")
        assert not (tmp_path / "deep").exists()

    def test_hooks_of_the_repository_do_not_run(self, remote, client, tmp_path):
        for name in ("post-checkout", "pre-push", "reference-transaction"):
            remote.commit(
                "hook", **{f"hooks/{name}": f"#!/bin/sh\ntouch {tmp_path}/ran\n", ".githooks/x": "y"}
            )
        remote.commit("config", **{"config": f"[core]\n\thooksPath={tmp_path}\n", ".gitmodules": "[submodule \"x\"]\n\tpath=x\n\turl=ext::sh -c touch% /tmp/x\n"})  # fmt: skip
        client.checkout("", tmp_path / "out")
        set_digest(client)
        assert not (tmp_path / "ran").exists()


class TestEdit:
    def test_one_commit_with_trailers(self, remote, client):
        change = set_digest(
            client, trailers={"Airflow-Dag": "dag", "Airflow-Run": "run\nPipeOps-Key: forged"}
        )
        assert (change.commit, change.changed, change.previous) == (remote.tip(), True, {DIGEST: "old"})
        assert remote.show() == remote.show(revision="main^").replace("digest: old", "digest: new")
        message = remote.log("%B%an <%ae>")
        assert message[:3] == ["Deploy new", "", "Airflow-Dag: dag"]
        assert message[3] == "Airflow-Run: run PipeOps-Key: forged"
        assert message[4].startswith("PipeOps-Key: dag/run/task/-1#")
        assert message[5] == "airflow-pipeops <airflow-pipeops@localhost>"

    def test_the_same_act_is_one_commit(self, remote, client, tmp_path):
        first = set_digest(client)
        remote.pull()
        remote.commit("somebody goes on", **{"x": "y"})
        again = set_digest(remote.client(tmp_path / "another-machine"))
        assert (again.commit, again.changed, again.reused, again.previous) == (
            first.commit,
            True,
            True,
            first.previous,
        )
        assert len(remote.log()) == 3

    def test_a_further_attempt_after_it_was_overwritten_fails_and_names_the_later_commit(
        self, remote, client
    ):
        first = set_digest(client, "a", key="one")
        later = set_digest(client, "b", key="two")
        with pytest.raises(
            InvalidInput, match=rf"changed since by {later.commit[:7]} \(Deploy b\)"
        ) as caught:
            set_digest(client, "a", key="one")
        assert (caught.value.field, caught.value.value) == ("commit", first.commit)
        assert (remote.tip(), "digest: b" in remote.show()) == (later.commit, True)

    def test_a_new_order_after_it_was_overwritten_is_a_new_commit(self, remote, client, tmp_path):
        first = set_digest(client, "a", key="one")
        set_digest(client, "b", key="two")
        again = set_digest(client, "a", key="one", order=2)
        assert (again.commit, again.changed, again.reused) == (remote.tip(), True, False)
        assert again.previous == {DIGEST: "b"}
        assert "digest: a" in remote.show()
        # Attempts of the second order find its commit; and where that was overwritten, they fail again.
        retried = set_digest(remote.client(tmp_path / "another"), "a", key="one", order=2)
        assert (retried.commit, retried.reused) == (again.commit, True)
        set_digest(client, "c", key="three")
        with pytest.raises(InvalidInput, match=again.commit[:12]):
            set_digest(client, "a", key="one", order=2)
        assert set_digest(client, "a", key="one", order=3).commit == remote.tip() != first.commit

    def test_a_new_order_while_its_values_stand_is_no_commit(self, remote, client):
        first = set_digest(client, "a", key="one")
        set_digest(client, "b", key="two")
        set_digest(client, "a", key="three")
        tip = remote.tip()
        assert set_digest(client, "a", key="one", order=2).commit == first.commit
        assert remote.tip() == tip

    def test_a_removed_file_is_no_commit_of_ours(self, remote, client):
        set_digest(client, "a", key="one")
        remote.pull()
        (remote.work / FILE).unlink()
        remote.commit("Remove it")
        with pytest.raises(InvalidInput, match="Remove it"):
            set_digest(client, "a", key="one")

    def test_another_value_is_another_act(self, remote, client):
        first, second = set_digest(client, "a"), set_digest(client, "b")
        assert first.commit != second.commit == remote.tip()

    def test_a_key_that_begins_another_key_is_another_act(self, remote, client):
        set_digest(client, "a", key="dag/run/task/1")
        set_digest(client, "b", key="x")
        assert set_digest(client, "a", key="dag/run/task/10").commit == remote.tip()

    def test_nothing_to_change(self, remote, client):
        change = set_digest(client, "old")
        assert (change.commit, change.changed) == (remote.tip(), False)
        assert len(remote.log()) == 1

    def test_expectations(self, remote, client):
        with pytest.raises(InvalidInput, match="is 1 and not 2 as expected") as caught:
            set_digest(client, expect={COUNT: 2})
        assert caught.value.field == "expect"
        assert len(remote.log()) == 1
        assert set_digest(client, expect={COUNT: 1, DIGEST: "old"}).changed

    @pytest.mark.parametrize(
        ("file", "content", "error"),
        [
            ("none.yaml", None, NotFound),
            ("../x.yaml", None, InvalidInput),
            ("/etc/passwd", None, InvalidInput),
            ("apps", None, InvalidInput),
            ("link.yaml", None, InvalidInput),
            ("linked/kustomization.yaml", None, NotFound),
            ("latin.yaml", b"a: \xe9\n", InvalidInput),
            ("broken.yaml", b"a: {\n", InvalidInput),
        ],
    )
    def test_bad_files_leave_nothing_behind(self, remote, client, file, content, error):
        (remote.work / "link.yaml").symlink_to("/etc/passwd")
        (remote.work / "linked").symlink_to("apps/web")
        before = remote.commit("files", **({file: content} if content else {}))
        with pytest.raises(error):
            client.commit_edit(file, {"a": 1}, "m", key="k")
        assert remote.tip() == before

    def test_modes_and_line_ends_stay(self, remote, client):
        remote.put("run.yaml", b"a: 1\r\nb: 2\r\n")
        (remote.work / "run.yaml").chmod(0o755)
        remote.commit("x", **{".gitattributes": "* text=auto eol=lf\n"})
        subprocess.run(
            [REAL_GIT, "-c", "core.autocrlf=false", "rm", "-q", "--cached", "run.yaml"], cwd=remote.work
        )
        client.commit_edit("run.yaml", {"a": 3}, "m", key="k")
        listing = subprocess.run([REAL_GIT, "ls-tree", "main", "run.yaml"], cwd=remote.path, capture_output=True, text=True).stdout  # fmt: skip
        assert listing.startswith("100755")

    def test_writers_at_the_same_time_all_land_once(self, remote, tmp_path):
        """Two machines with four writers each, two edits a writer, and each edit tried twice."""
        names = [f"app{number}" for number in range(8)]
        for name in names:
            remote.put(f"apps/{name}.yaml", "a: 0\n")
        remote.put("shared.yaml", "".join(f"{name}: 0\n" for name in names))
        remote.commit("apps")
        before = len(remote.log())

        def write(name: str) -> None:
            mine = remote.client(tmp_path / f"cache{int(name[-1]) % 2}")
            for value in (1, 2):
                for _ in range(2):
                    mine.commit_edit("shared.yaml", {name: value}, f"{name} {value}", key=f"{name}/{value}")

        with ThreadPoolExecutor(8) as pool:
            list(pool.map(write, names))
        assert yaml.safe_load(remote.show("shared.yaml")) == dict.fromkeys(names, 2)
        made = remote.log()[: len(remote.log()) - before]
        assert sorted(made) == sorted(f"{name} {value}" for name in names for value in (1, 2))

    def test_others_force_push_in_between(self, remote, client):
        set_digest(client, "a", key="a")
        subprocess.run(
            [REAL_GIT, "push", "-q", "--force", "origin", "HEAD:main"], cwd=remote.work, check=True
        )
        assert set_digest(client, "b", key="b").previous == {DIGEST: "old"}
        assert remote.log() == ["Deploy b", "first"]

    def test_messages(self):
        assert commit_message(" a\n", {"K": "v\r\nX: y"}) == "a\n\nK: v X: y\n"
        with pytest.raises(InvalidInput, match="message is empty"):
            commit_message(" \n", {})
        assert act_key("a\nb", 1).startswith("a b#")
        assert act_key("a", {"x": 1}) != act_key("a", {"x": "1"})


class TestFailures:
    def test_a_rejecting_hook_is_quoted_and_not_tried_again(self, remote, client, tmp_path):
        remote.hook(
            "pre-receive", f'echo x >> {tmp_path}/count; echo "main is frozen until Monday" >&2; exit 1'
        )
        with pytest.raises(AccessDenied, match="main is frozen until Monday"):
            set_digest(client)
        assert (tmp_path / "count").read_text() == "x\n"
        assert len(remote.log()) == 1

    def test_a_push_that_arrives_and_then_dies(self, remote, tmp_path, fake_git):
        folder = fake_git(
            'case "$*" in *" push "*) if [ ! -e $STATE/died ]; then touch $STATE/died; "$GIT" "$@"; '
            'echo "fatal: the remote end hung up unexpectedly" >&2; exit 128; fi;; esac'
        )
        change = set_digest(remote.client(tmp_path / "cache"))
        assert (folder / "died").exists()
        assert (change.commit, change.changed, change.reused) == (remote.tip(), True, True)
        assert change.previous == {DIGEST: "old"}
        assert len(remote.log()) == 2

    def test_a_push_that_hangs_after_it_arrived(self, remote, tmp_path, fake_git):
        fake_git(
            'case "$*" in *" push "*) if [ ! -e $STATE/hung ]; then touch $STATE/hung; "$GIT" "$@"; sleep 60; fi;; esac'
        )
        client = remote.client(tmp_path / "cache", timeout=timedelta(seconds=1))
        started = time.monotonic()
        assert set_digest(client).commit == remote.tip()
        assert time.monotonic() - started < 20
        assert len(remote.log()) == 2

    def test_what_makes_progress_is_not_ended(self, remote, tmp_path, fake_git):
        fake_git(
            'case "$*" in *" fetch "*) for i in 1 2 3 4 5 6 7 8 9 10; do echo "Receiving objects: $i%" >&2; sleep 0.4; done;; esac'
        )
        client = remote.client(tmp_path / "cache", timeout=timedelta(seconds=2), attempts=1)
        started = time.monotonic()
        assert client.fetch() == remote.tip()
        assert time.monotonic() - started > 3

    def test_what_works_in_silence_is_not_ended(self, remote, tmp_path, fake_git):
        fake_git(
            'case "$*" in *" fetch "*) end=$(($(date +%s) + 4)); while [ $(date +%s) -lt $end ]; do :; done;; esac'
        )
        assert (
            remote.client(tmp_path / "cache", timeout=timedelta(seconds=2), attempts=1).fetch()
            == remote.tip()
        )

    def test_what_stands_still_is_ended_and_leaves_nothing(self, remote, tmp_path, fake_git):
        client = remote.client(tmp_path / "cache")
        client.fetch()
        objects = client._cache.directory / "objects"
        fake_git(
            'case "$*" in *" fetch "*) echo "fatal: no" >&2; head -c 100000 /dev/zero > "$(mktemp '
            f'{objects}/pack/tmp_pack_XXXXXX)"; mkdir -p {objects}/tmp_objdir-incoming-x/pack; sleep 60;; esac'
        )
        client = remote.client(tmp_path / "cache", timeout=timedelta(seconds=1), attempts=2)
        with pytest.raises(Unreachable, match="no progress for 1 s"):
            client.fetch()
        assert not [path for path in objects.rglob("*") if "tmp_" in str(path)]

    @pytest.mark.parametrize("asynchronous", [True, False])
    def test_what_moves_is_not_ended(self, remote, tmp_path, fake_git, asynchronous):
        """Half a second at a time, for longer than it may stand still."""
        fake_git('for n in 1 2 3 4 5 6 7 8 9; do echo "remote: Counting objects: $n" >&2; sleep 0.5; done')
        client = remote.client(tmp_path / "cache", timeout=timedelta(seconds=3), attempts=1)
        assert (asyncio.run(client.atip()) if asynchronous else client.tip()) == remote.tip()

    @pytest.mark.parametrize("asynchronous", [True, False])
    def test_an_answer_without_end_is_not_kept(self, remote, tmp_path, fake_git, asynchronous, monkeypatch):
        monkeypatch.setattr("airflow_pipeops.git.process.MOST", 4 * 1024**2)
        fake_git("exec yes refs/heads/other")
        client = remote.client(tmp_path / "cache", attempts=1)
        with pytest.raises(SystemFailure, match="MB; the rest was not read") as caught:
            asyncio.run(client.atip()) if asynchronous else client.tip()
        assert not caught.value.retryable

    @pytest.mark.parametrize(
        "script", ["exec sleep 300", "while :; do echo 'remote: Counting' >&2; sleep 0.1; done"]
    )
    def test_a_triggerer_waits_for_no_answer_for_ever(self, remote, tmp_path, fake_git, script):
        fake_git(script)
        client = remote.client(tmp_path / "cache", timeout=timedelta(seconds=0.5), attempts=1)
        with pytest.raises(Unreachable, match="no progress"):
            asyncio.run(client.atip())

    def test_one_waits_for_another_task_while_that_makes_progress(self, remote, tmp_path):
        client = remote.client(tmp_path / "cache", timeout=timedelta(seconds=1), attempts=1)
        client.fetch()
        with client._cache._lock.open("r+") as lock, ThreadPoolExecutor(1) as pool:
            fcntl.flock(lock, fcntl.LOCK_EX)
            waiting = pool.submit(client.fetch)
            began = time.monotonic()
            while time.monotonic() - began < 4:  # twice as long as one waits for a task that stands still
                os.utime(client._cache._lock)
                time.sleep(0.05)
            assert not waiting.done()
            fcntl.flock(lock, fcntl.LOCK_UN)
            assert waiting.result(30) == remote.tip()
            fcntl.flock(lock, fcntl.LOCK_EX)
            with pytest.raises(Unreachable, match="another task fetches"):
                client.fetch()

    def test_a_stale_lock_on_the_server_is_named(self, remote, client):
        lock = remote.path / "refs/heads/main.lock"
        lock.touch()
        with pytest.raises(
            Conflict, match=r"cannot lock the branch 'main'.*main\.lock': File exists"
        ) as caught:
            set_digest(client)
        assert "remove the lock file" in str(caught.value)
        lock.unlink()
        assert set_digest(client).changed

    def test_a_repository_of_another_user_is_said_to_be_so(self, remote, tmp_path, fake_git):
        fake_git("export GIT_TEST_ASSUME_DIFFERENT_OWNER=1")
        with pytest.raises(AccessDenied, match="belongs to another user") as caught:
            remote.client(tmp_path / "cache").fetch()
        assert "safe.directory" not in str(caught.value)

    def test_counting_is_no_complaint(self, remote, client):
        remote.hook(
            "pre-receive", "echo 'Counting objects: 100% (3/3), done.' >&2; echo 'no, not today' >&2; exit 1"
        )
        with pytest.raises(AccessDenied, match="no, not today") as caught:
            set_digest(client)
        assert "objects" not in str(caught.value)

    def test_a_push_that_never_arrives(self, remote, tmp_path, fake_git):
        folder = fake_git(
            'case "$*" in *" push "*) echo x >> $STATE/n; echo "fatal: Connection reset" >&2; exit 128;; esac'
        )
        with pytest.raises(Unreachable):
            set_digest(remote.client(tmp_path / "cache"))
        assert len((folder / "n").read_text().split()) == 4
        assert len(remote.log()) == 1

    @pytest.mark.parametrize("moment", ["before", "after"])
    def test_killed_around_the_push_and_tried_again(self, remote, client, tmp_path, fake_git, moment):
        run = '"$GIT" "$@"; ' if moment == "after" else ""
        fake_git(
            f'case "$*" in *" push "*) if [ ! -e $STATE/at ]; then {run}touch $STATE/at; sleep 60; fi;; esac'
        )
        program = (
            "from airflow_pipeops.git.repository import GitRepository as G\n"
            f"G({str(remote.path)!r}, cache_dir={str(tmp_path / 'cache')!r})"
            f".commit_edit({FILE!r}, {{{DIGEST!r}: 'new'}}, 'Deploy new', key='dag/run/task/-1')"
        )
        worker = subprocess.Popen([sys.executable, "-c", program], cwd=Path(__file__).parents[2])
        deadline = time.monotonic() + 120
        while not (tmp_path / "bin/at").exists():
            assert time.monotonic() < deadline
            assert worker.poll() is None
            time.sleep(0.02)
        worker.send_signal(signal.SIGKILL)
        worker.wait()
        change = set_digest(client)
        assert (change.commit, change.changed) == (remote.tip(), True)
        assert remote.log() == ["Deploy new", "first"]

    def test_git_is_not_installed(self, client, monkeypatch, tmp_path):
        monkeypatch.setenv("PATH", str(tmp_path))
        monkeypatch.setattr(os, "defpath", str(tmp_path))
        with pytest.raises(InvalidInput, match="git is not installed"):
            GitRepository(client.url, cache_dir=tmp_path / "c").tip()


class TestRevert:
    def test_by_value_and_once(self, remote, client):
        change = set_digest(client)
        remote.pull()
        remote.commit("elsewhere", **{"other.txt": "x"})
        done = client.revert(change.commit, "it crashed", key="k")
        assert (done.changed, done.restored, done.commit) == (True, (FILE,), remote.tip())
        assert "digest: old" in remote.show()
        assert remote.log()[0] == f"Revert {change.commit[:12]}: Deploy new"
        again = client.revert(change.commit, "it crashed", key="k")
        assert (again.commit, again.changed, again.reused, again.restored) == (
            done.commit,
            True,
            True,
            (FILE,),
        )
        other = client.revert(change.commit, "it crashed", key="another")
        assert (other.commit, other.changed, other.restored) == (done.commit, False, ())

    def test_a_revert_that_was_taken_back(self, remote, client):
        change = set_digest(client)
        done = client.revert(change.commit, "it crashed", key="k")
        client.commit_edit(FILE, {COUNT: 7}, "Scale", key="scale")
        # Other values of the file are of no account.
        assert client.revert(change.commit, "it crashed", key="k").commit == done.commit
        client.revert(client.tip(), "", key="unscale")
        later = set_digest(client, key="again")
        with pytest.raises(InvalidInput, match=rf"changed since by {later.commit[:7]} \(Deploy new\)"):
            client.revert(change.commit, "it crashed", key="k")
        assert "digest: new" in remote.show()
        again = client.revert(change.commit, "it crashed", key="k", order=2)
        assert (again.changed, again.reused, again.commit) == (True, False, remote.tip())
        assert "digest: old" in remote.show()

    def test_added_and_deleted_files(self, remote, client):
        (remote.work / FILE).unlink()
        sha = remote.commit("swap", **{"ü new.txt": "x"})
        assert client.revert(sha, "", key="k").restored == (FILE, "ü new.txt")
        assert client.paths_changed(f"{sha}", client.tip()) == (FILE, "ü new.txt")
        remote.pull()
        assert (remote.work / FILE).exists()
        assert not (remote.work / "ü new.txt").exists()

    def test_what_came_later_is_not_thrown_away(self, remote, client):
        first = set_digest(client, "a", key="a")
        later = set_digest(client, "b", key="b")
        with pytest.raises(InvalidInput, match=rf"changed again by {later.commit[:7]} \(Deploy b\)"):
            client.revert(first.commit, "", key="k")
        assert remote.tip() == later.commit

    def test_in_a_shared_file_the_values_are_taken_back_and_no_others(self, remote, client):
        shared = "".join(
            f"- name: app{number}  # {number}\n  tag: v1\n  count: {number}\n" for number in range(4)
        )
        remote.commit("shared", **{"values.yaml": shared})
        one = client.commit_edit(
            "values.yaml", {"[name=app1].tag": "v2", "[name=app1].count": 9}, "one", key="1"
        )
        client.commit_edit("values.yaml", {"[name=app2].tag": "v3", "[name=app0].count": 7}, "two", key="2")
        remote_text = remote.show("values.yaml")
        # Somebody adds an item in front: places in the list are others now.
        subprocess.run([REAL_GIT, "pull", "-q", "origin", "main"], cwd=remote.work, check=True)
        remote.commit("front", **{"values.yaml": "- name: first\n  tag: v1\n  count: 1\n" + remote_text})
        done = client.revert(one.commit, "No.", key="3")
        assert (done.changed, done.restored) == (True, ("values.yaml",))
        wanted = remote_text.replace("count: 9", "count: 1").replace("tag: v2", "tag: v1")
        assert remote.show("values.yaml").split("count: 1\n", 1)[1] == wanted
        # Again: nothing to do, and a value that was set again since is not thrown away.
        assert not client.revert(one.commit, "No.", key="4").changed
        client.commit_edit("values.yaml", {"[name=app1].tag": "v9"}, "nine", key="5")
        with pytest.raises(InvalidInput, match="changed again"):
            client.revert(one.commit, "No.", key="6")

    def test_an_added_key_in_a_file_that_changed_since_is_taken_back(self, remote, client):
        before = remote.show()
        one = client.commit_edit(FILE, {"new": 1}, "one", key="1")
        set_digest(client, "b", key="2")
        assert client.revert(one.commit, "No.", key="3").changed
        assert remote.show() == before.replace("digest: old", "digest: b")
        # One that was set again since is not thrown away.
        two = client.commit_edit(FILE, {"new": 1}, "two", key="4")
        client.commit_edit(FILE, {"new": 2}, "three", key="5")
        with pytest.raises(InvalidInput, match="changed again"):
            client.revert(two.commit, "No.", key="6")

    def test_commits_that_cannot_be_reverted(self, remote, client):
        first = remote.tip()
        with pytest.raises(InvalidInput, match="first commit"):
            client.revert(first, "", key="k")
        off = remote.commit("off", push=False)
        subprocess.run([REAL_GIT, "push", "-q", "origin", "HEAD:other"], cwd=remote.work, check=True)
        with pytest.raises(InvalidInput, match="not on branch 'main'"):
            client.revert(client.resolve("other"), "", key="k")
        assert off
        with pytest.raises(NotFound):
            client.revert("f" * 40, "", key="k")


class TestHttp:
    def client(self, http_git, tmp_path, password="s3cret/tok+en", **options):
        return GitRepository(
            http_git.url,
            credentials=Credentials(username="airflow", password=password),
            cache_dir=tmp_path / "http-cache",
            **options,
        )

    def test_read_write_and_permission(self, remote, http_git, tmp_path):
        client = self.client(http_git, tmp_path)
        assert client.tip() == remote.tip()
        assert set_digest(client).commit == remote.tip()
        assert client.may_write()
        assert len(remote.log()) == 2

    def test_the_token_is_nowhere(self, remote, http_git, tmp_path, caplog, monkeypatch):
        caplog.set_level(logging.DEBUG)
        monkeypatch.setenv("GIT_TRACE", "1")
        monkeypatch.setenv("GIT_TRACE_CURL", "1")
        secret = "wr0ng/to:ken"
        client = self.client(http_git, tmp_path, secret)
        texts = []
        for call in (client.tip, client.fetch, client.may_write, lambda: set_digest(client)):
            try:
                texts.append(str(call()))
            except AccessDenied as error:
                texts += [str(error), repr(error.__cause__), repr(error.args)]
        texts += [caplog.text, repr(client), client.display_url, repr(client._git.credentials)]
        encoded = base64.b64encode(f"airflow:{secret}".encode()).decode()
        assert any(encoded in given for _, given in http_git.requests), "the token was never even sent"
        for text in texts:
            assert secret not in text
            assert "wr0ng" not in text
            assert encoded not in text
        assert any("refused us" in text for text in texts)
        stored = [
            path.read_bytes() for path in tmp_path.rglob("*") if path.is_file() and "http-cache" in str(path)
        ]
        assert not any(b"wr0ng" in content for content in stored)

    def test_the_token_is_in_no_command_line(self, http_git, tmp_path, fake_git):
        folder = fake_git('echo "$@" >> $STATE/argv')
        set_digest(self.client(http_git, tmp_path))
        assert "push" in (folder / "argv").read_text()
        assert "s3cret" not in (folder / "argv").read_text()

    def test_the_token_goes_to_its_own_host_only(self, http_git, tmp_path):
        client = GitRepository(
            http_git.url.replace("127.0.0.1", "localhost"), credentials=Credentials(username="a", password="mine"), cache_dir=tmp_path
        )  # fmt: skip
        client._git.url = http_git.url  # as after a redirect
        with pytest.raises(AccessDenied):
            client._git.run("ls-remote", "--", http_git.url)
        assert all(not given for _, given in http_git.requests)

    def test_a_server_that_stumbles(self, remote, http_git, tmp_path):
        http_git.failing[:] = [503, 502]
        assert self.client(http_git, tmp_path).tip() == remote.tip()
        http_git.failing[:] = [500] * 50
        with pytest.raises(Unreachable, match="cannot be reached"):
            self.client(http_git, tmp_path).tip()

    def test_nobody_listens(self, tmp_path):
        with pytest.raises(Unreachable):
            GitRepository("http://127.0.0.1:9/x.git", cache_dir=tmp_path).tip()


class TestInput:
    @pytest.mark.parametrize(
        "url",
        ["", "-oProxyCommand=x", "ext::sh -c x", "git://host/x", "relative/path", "https://u:p4ss@host/x", "http://a b/x",
         "ssh://-oProxyCommand=x/y", "fd::3", "host:x::y"],
    )  # fmt: skip
    def test_urls_that_are_refused(self, url):
        with pytest.raises(InvalidInput) as caught:
            repository_url(url)
        assert "p4ss" not in str(caught.value) + repr(caught.value.value)

    @pytest.mark.parametrize(
        "url",
        [
            "https://host/x.git",
            "https://u@host:8/x",
            "git@host:team/x.git",
            "ssh://git@host/x",
            "file:///x",
            "/srv/x",
        ],
    )
    def test_urls_that_are_taken(self, url):
        assert repository_url(url) == url

    def test_a_token_in_the_url_is_on_no_command_line(self, http_git, fake_git, tmp_path):
        folder = fake_git('echo "$@" >> "$STATE/seen"')
        url = http_git.url.replace("://", "://airflow@")
        client = GitRepository(url, credentials=Credentials(password="s3cret/tok+en"), cache_dir=tmp_path)
        assert client.fetch()  # the user name in the URL counts
        assert "airflow" not in client.url + client.display_url
        seen = (folder / "seen").read_text()
        assert "127.0.0.1" in seen
        assert "airflow@" not in seen
        url = http_git.url.replace("://", "://t0ken-without-a-name@")
        with pytest.raises(InvalidInput, match="token belongs into the password field") as caught:
            GitRepository(url, cache_dir=tmp_path)
        assert "t0ken" not in str(caught.value) + repr(caught.value.value)

    def test_a_token_that_the_server_sends_back_is_not_told(self, remote, http_git, tmp_path):
        token = "s3cret/tok+en"
        packed = base64.b64encode(f"airflow:{token}".encode()).decode()
        remote.hook("pre-receive", f"echo 'you are {token}, {packed}' >&2; exit 1")
        credentials = Credentials(username="airflow", password=token)
        client = GitRepository(http_git.url, credentials=credentials, cache_dir=tmp_path)
        with pytest.raises(AccessDenied, match="you are") as caught:
            set_digest(client)
        told = str(caught.value)
        assert token not in told
        assert packed[-12:] not in told

    @pytest.mark.parametrize(
        "name",
        ["", "-x", "a..b", "a b", "a~1", "x.lock", "/a", "a/", "refs\\x", "a\nb", "@{", ".a", "a/.b", None],
    )
    def test_branches_that_are_refused(self, name):
        with pytest.raises(InvalidInput):
            branch_name(name)

    def test_names_and_tokens_with_line_breaks(self):
        with pytest.raises(InvalidInput, match="author_name"):
            Author("a\nb")
        with pytest.raises(InvalidInput, match="line break") as caught:
            Credentials(password="s3cret\n")
        assert "s3cret" not in str(caught.value)

    def test_the_environment_of_git_holds_nothing_of_the_worker(self, monkeypatch, tmp_path):
        monkeypatch.setenv("AIRFLOW__CORE__FERNET_KEY", "x")
        monkeypatch.setenv("GIT_DIR", "/x")
        monkeypatch.setenv("GIT_SSH_COMMAND", "evil")
        made = environment("ssh://git@h/x", Credentials(private_key=KEY, known_hosts="h k"), tmp_path)
        assert not {"AIRFLOW__CORE__FERNET_KEY", "GIT_DIR"} & set(made)
        assert "StrictHostKeyChecking=yes" in made["GIT_SSH_COMMAND"]
        assert KEY.split()[4] not in str(made)
        assert (tmp_path / "key").stat().st_mode & 0o777 == 0o600

    def test_the_home_directory_logs_nobody_in(self, remote, http_git, monkeypatch, tmp_path):
        remote.commit("one", a="1")
        host = http_git.url.split("/")[2].partition(":")[0]
        (tmp_path / ".netrc").write_text(
            f"machine {host} login airflow password s3cret/tok+en\n", encoding="utf-8"
        )
        monkeypatch.setenv("HOME", str(tmp_path))
        with pytest.raises(AccessDenied):
            GitRepository(http_git.url, cache_dir=tmp_path / "cache", attempts=1).tip()

    def test_an_ssh_key_leaves_with_its_client(self, tmp_path):
        client = GitRepository(
            "git@127.0.0.1:x", credentials=Credentials(private_key=KEY), cache_dir=tmp_path, attempts=1
        )
        folder = client._git._private
        assert (folder / "key").read_text() == KEY
        with pytest.raises(SystemFailure) as caught:
            client.tip()
        assert KEY.split()[4] not in str(caught.value)
        del client, caught
        import gc

        gc.collect()
        assert not folder.exists()
