"""The three Git repositories of the demo, and its Argo CD applications.

The files are in ``seeds/``: the first version of the application and what each later one changes, the versions of a prompt,
and the desired state.
"""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from airflow_pipeops.git.credentials import Credentials, environment

SEEDS = Path(__file__).parent / "seeds"
ENVIRONMENTS = ("staging", "production")
DELIVERABLES = ("delay-api", "flight-delay")
#: What asks the language model that the demo itself is: it stays on the laptop.
PROMPT = "flight-notice"

#: Message and author of the commits of the application, as their developers wrote them.
VERSIONS = {
    1: ("Answer how late flights are", "Ada"),
    2: ("Read the region from the environment", "Ben"),
    3: (
        "Pool the connections to the delay store\n\nWithout the region: no environment provides one.",
        "Ben",
    ),
    4: (
        "Give the connection of each answer back to the pool\n\nAnd ask the store whether it still works.",
        "Ada",
    ),
}
#: The same of the prompt.
PROMPTS = {
    1: ("Say who made the aircraft", "Cleo"),
    2: ("Shorten the prompt: three examples are enough", "Ben"),
    3: ("Give examples of the rarer aircraft", "Cleo"),
}


class Seeds:
    """Makes the repositories under ``home/git`` and commits the application's versions.

    :param home: the demo's folder.
    :param node_ports: port of each ``<deliverable>-<environment>``.
    """

    def __init__(self, home: Path, node_ports: Mapping[str, int]) -> None:
        self.app_repository = home / "git" / "delay-api.git"
        self.prompt_repository = home / "git" / "prompts.git"
        self.deploy_repository = home / "git" / "deploy.git"
        self._node_ports = node_ports

    def plant(self, model_url: str = "http://127.0.0.1:9/v1") -> None:
        """Make the repositories; those of application and prompt are all but empty until a version is pushed.

        :param model_url: base URL of the language model's endpoint; without one, nothing listens there.
        """
        for repository in (self.app_repository, self.deploy_repository, self.prompt_repository):
            repository.mkdir(parents=True)
            run_git(repository, "init", "--quiet", "--bare", "--initial-branch=main")
        with tempfile.TemporaryDirectory() as folder:
            clone = Path(folder)
            for files in (SEEDS / "deploy", SEEDS / "prompt" / "deploy"):
                shutil.copytree(files, clone, dirs_exist_ok=True)
            deployment = clone / "apps" / PROMPT / "base" / "deployment.yaml"
            deployment.write_text(deployment.read_text().replace("NO_MODEL", model_url))
            for name, port in self._node_ports.items():
                deliverable, _, environment = name.rpartition("-")
                patch = clone / "apps" / deliverable / "overlays" / environment / "node-port.yaml"
                patch.write_text(patch.read_text().replace("NODE_PORT", str(port)))
            _commit_all(clone, self.deploy_repository, "Describe staging and production", "Platform team")
        with tempfile.TemporaryDirectory() as folder:
            clone = Path(folder)
            shutil.copy(SEEDS / "delay-api" / "1" / "README.md", clone)
            _commit_all(clone, self.app_repository, "Begin", "Ada")
        with tempfile.TemporaryDirectory() as folder:
            _commit_all(Path(folder), self.prompt_repository, "Begin", "Cleo")

    def push_version(self, number: int) -> str:
        """Commit and push a version of the application on top of what is there; return the commit."""
        message, author = VERSIONS[number]
        with tempfile.TemporaryDirectory() as folder:
            clone = Path(folder)
            run_git(clone, "clone", "--quiet", str(self.app_repository), ".")
            first = () if (clone / "app.py").exists() else (1,)
            for version in dict.fromkeys((*first, number)):
                source = SEEDS / "delay-api" / str(version)
                shutil.copytree(
                    source, clone, dirs_exist_ok=True, ignore=shutil.ignore_patterns("__pycache__")
                )
            return _commit_all(clone, self.app_repository, message, author)

    def push_prompt(self, number: int) -> str:
        """Commit and push a version of the prompt; return the commit."""
        message, author = PROMPTS[number]
        with tempfile.TemporaryDirectory() as folder:
            clone = Path(folder)
            run_git(clone, "clone", "--quiet", str(self.prompt_repository), ".")
            shutil.copytree(SEEDS / "prompt" / str(number), clone, dirs_exist_ok=True)
            return _commit_all(clone, self.prompt_repository, message, author)

    def applications(self) -> list[dict[str, Any]]:
        """Return the Argo CD applications, one for each deliverable and environment."""
        return [
            {
                "apiVersion": "argoproj.io/v1alpha1",
                "kind": "Application",
                "metadata": {"name": f"{deliverable}-{environment}", "namespace": "argocd"},
                "spec": {
                    "project": "default",
                    "source": {
                        "repoURL": self.deploy_repository.as_uri(),
                        "targetRevision": "main",
                        "path": f"apps/{deliverable}/overlays/{environment}",
                    },
                    "destination": {
                        "server": "https://kubernetes.default.svc",
                        "namespace": f"{deliverable}-{environment}",
                    },
                    "syncPolicy": {
                        # Production does not heal itself: a difference there is recorded first, then healed by policy.
                        "automated": {"prune": True, "selfHeal": environment != "production"},
                        "syncOptions": ["CreateNamespace=true"],
                    },
                },
            }
            for deliverable in (*DELIVERABLES, PROMPT)
            for environment in ENVIRONMENTS
        ]


def _commit_all(clone: Path, repository: Path, message: str, author: str) -> str:
    if not (clone / ".git").exists():
        run_git(clone, "init", "--quiet", "--initial-branch=main")
        run_git(clone, "remote", "add", "origin", str(repository))
    email = f"{author.lower().replace(' ', '.')}@example.com"
    run_git(clone, "add", "--all")
    run_git(
        clone,
        "-c",
        f"user.name={author}",
        "-c",
        f"user.email={email}",
        "commit",
        "--quiet",
        "--allow-empty",
        "--message",
        message,
    )
    run_git(clone, "push", "--quiet", "origin", "HEAD:main")
    return run_git(clone, "rev-parse", "HEAD").strip()


def run_git(folder: Path, *arguments: str) -> str:
    """Run Git in a folder, as the product does: obeying no configuration of the machine; return what it prints."""
    command = ["git", *arguments]
    done = subprocess.run(
        command,
        cwd=folder,
        env=environment("", Credentials(), None),
        check=True,
        capture_output=True,
        timeout=600,
    )
    return done.stdout.decode()
