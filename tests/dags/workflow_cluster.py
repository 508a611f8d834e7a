"""Stands where a cluster with Argo Workflows would: runs the containers of the chart's templates on this machine.

The server is the one for tests; Git, the registry and the scripts are real. Only BuildKit has a stand-in, which packs the
image by the demo's packager: it needs user namespaces, and these may lack here.
"""

from __future__ import annotations

import json
import sys
from base64 import b64encode
from pathlib import Path
from typing import Any

from tests.argo_workflows.server import ArgoServer
from tests.build.cluster import running
from tests.build.workflows.playing import begins, ends, says
from tests.helm.test_workflow_templates import filled, templates
from tests.registry import LOGIN, PASSWORD, ContainerRegistry

GIT_PASSWORD = "s3cret/tok+en"
_ROOT = Path(__file__).parents[2]
_BUILDER = '''#!{python}
"""Takes the words of buildctl, as far as they matter here."""
import json, os, sys
from base64 import b64decode
from pathlib import Path
sys.path.insert(0, {root!r})
from airflow_pipeops.base.http import tls_context
from airflow_pipeops.build import oci
from airflow_pipeops.build.registry import Credential, Registry
from airflow_pipeops.demo import packager

def word(begin):
    return next(one for one in sys.argv if one.startswith(begin)).removeprefix(begin)

name = dict(one.partition("=")[::2] for one in word("--output=").split(","))["name"]
host, _, rest = name.partition("/")
repository, _, tag = rest.rpartition(":")
logins = json.loads(Path(os.environ["DOCKER_CONFIG"], "config.json").read_text())["auths"]
login, _, password = b64decode(logins[host]["auth"]).decode().partition(":")
blobs = packager.image(Path(word("--local=context=")), packager.parse(Path("Containerfile").read_text()))
digest = list(blobs)[-1]
for folder in (Path("layout"), Path({artifacts!r}, repository.rpartition("/")[2])):
    oci.Layout(folder).add(blobs, digest)
with Registry(host, credential=Credential(login, password), verify=tls_context({ca_file!r})) as registry:
    registry.push(repository, oci.Layout(Path("layout")), digest)
    registry.tag(repository, digest, tag)
Path("metadata.json").write_text(json.dumps({{"containerimage.digest": digest}}))
print("#1 pushed " + digest)
'''


class WorkflowCluster:
    """A namespace in which the chart was installed.

    :param argo: the server.
    :param folder: for the mounts of all pods.
    :param real: the registry.
    :param artifacts: folder in which the sandbox looks for what it starts.
    """

    def __init__(self, argo: ArgoServer, folder: Path, real: ContainerRegistry, artifacts: Path) -> None:
        self._argo, self._folder = argo, folder
        self._secrets, self._binaries = folder / "secrets", folder / "bin"
        for name in ("git", "logins"):
            (self._secrets / name).mkdir(parents=True)
        (self._secrets / "git" / "username").write_text("airflow")
        (self._secrets / "git" / "password").write_text(GIT_PASSWORD)
        login = b64encode(f"{LOGIN}:{PASSWORD}".encode()).decode()
        auths = {"auths": {real.host: {"auth": login}}}
        (self._secrets / "logins" / "config.json").write_text(json.dumps(auths))
        self._binaries.mkdir()
        kit = self._binaries / "buildctl-daemonless.sh"
        kit.write_text(
            _BUILDER.format(
                python=sys.executable, root=str(_ROOT), artifacts=str(artifacts), ca_file=str(real.ca_file)
            )
        )
        kit.chmod(0o755)
        for name, template in templates({"gitSecret": "git", "registrySecret": "registry"}).items():
            argo.template(template["spec"], name)

    def step(self, argo: ArgoServer, name: str) -> None:
        """Run the workflow of a name to its end."""
        workflow = argo.one(name)
        spec = workflow["spec"]
        template = argo.read("workflowtemplates", "argo", spec["workflowTemplateRef"]["name"])
        assert template is not None
        given = {one["name"]: one["value"] for one in spec["arguments"]["parameters"]}
        pod = filled(template, given, spec.get("entrypoint", ""))["template"]
        begins(argo, name)
        folders = self._mounts(name)
        for source in pod.get("initContainers", ()):
            done = self._run(source, folders)
            if done.returncode:
                ends(code=None, message=f"Error (exit code {done.returncode}): {done.stderr}")(argo, name)
                return
        done = self._run(pod["container"], folders)
        says(*(done.stdout + done.stderr).splitlines())(argo, name)
        (answer,) = pod["outputs"]["parameters"]
        place = answer["valueFrom"]["path"]
        for inside, outside in folders.items():
            place = place.replace(inside, str(outside))
        file = Path(place)
        message = f"Error (exit code {done.returncode})" if done.returncode else ""
        ends(file.read_text(encoding="utf-8") if file.exists() else "", done.returncode, message)(argo, name)

    def _mounts(self, name: str) -> dict[str, Path]:
        made = {place: self._folder / name / place for place in ("work", "reports")}
        for folder in made.values():
            folder.mkdir(parents=True)
        secrets = {place: self._secrets / place for place in ("git", "logins")}
        return {f"/pipeops/{place}": folder for place, folder in {**made, **secrets}.items()}

    def _run(self, container: dict[str, Any], folders: dict[str, Path]) -> Any:
        return running.run(
            container, folders, [self._binaries, Path(sys.executable).parent], HOME="/nonexistent"
        )
