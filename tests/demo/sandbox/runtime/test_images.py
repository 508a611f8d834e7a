"""Images are what their digest says, and stay in their folder."""

from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path
from typing import Any

import pytest

from airflow_pipeops.demo.sandbox.runtime.images import ImageError, ImageStore


def link(name: str, target: str, kind: bytes = tarfile.SYMTYPE) -> tuple[tarfile.TarInfo, bytes]:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return info, b""


@pytest.fixture
def store(layout: Any, tmp_path: Path) -> ImageStore:
    return ImageStore(layout.root, tmp_path / "cache")


def test_unpacks_once_by_content(layout: Any, store: ImageStore) -> None:
    reference = layout.app(Env=["A=1", "B=x=y"], Entrypoint=["python"])
    image = store.resolve(reference)
    assert (image.root / "app" / "main.py").exists()
    assert image.env == {"A": "1", "B": "x=y"}
    assert (image.entrypoint, image.cmd, image.working_dir) == (["python"], ["python", "main.py"], "/app")
    assert store.resolve("registry.example:5000/team/" + reference).root == image.root
    assert [p.name for p in store.cache.iterdir()] == [reference.rpartition(":")[2]]


def test_index_chooses_the_machine(layout: Any, store: ImageStore) -> None:
    digest = layout.app().rpartition("@")[2]
    other = {"digest": "sha256:" + "0" * 64, "platform": {"architecture": "vax"}}
    index = layout.blob("app", json.dumps({"manifests": [other, {"digest": digest}]}).encode())
    assert (store.resolve(f"app@{index}").root / "app" / "main.py").exists()


@pytest.mark.parametrize(
    "reference", ["app", "app:1.0", "app@sha256:12", "../app@sha256:" + "0" * 64, "APP@sha256:x"]
)
def test_refuses_a_reference_without_digest(store: ImageStore, reference: str) -> None:
    with pytest.raises(ImageError):
        store.resolve(reference)


def test_every_blob_is_verified(layout: Any, store: ImageStore) -> None:
    reference = layout.app()
    for blob in (layout.root / "app" / "blobs" / "sha256").iterdir():
        content = blob.read_bytes()
        blob.write_bytes(content[:-1] + b"?")
        with pytest.raises(ImageError, match="digest mismatch"):
            store.resolve(reference)
        blob.unlink()
        with pytest.raises(ImageError, match=r"not found|missing"):
            store.resolve(reference)
        blob.write_bytes(content)
    assert not store.cache.exists() or not list(store.cache.iterdir())
    store.resolve(reference)


ESCAPES = {
    "dots": [(tarfile.TarInfo("../evil"), b"x")],
    "inner dots": [(tarfile.TarInfo("a/../../evil"), b"x")],
    "absolute": [(tarfile.TarInfo("/tmp/evil"), b"x")],
    "symlink out": [link("out", "../../..")],
    "absolute symlink": [link("out", "/etc")],
    "through a symlink": [link("out", ".."), (tarfile.TarInfo("out/evil"), b"x")],
    "hard link out": [link("out", "../../secret", tarfile.LNKTYPE)],
    "whiteout out": [(tarfile.TarInfo("../.wh.secret"), b"")],
}


@pytest.mark.parametrize("members", ESCAPES.values(), ids=ESCAPES.keys())
def test_nothing_leaves_the_image(layout: Any, store: ImageStore, tmp_path: Path, members: Any) -> None:
    (tmp_path / "secret").write_text("kept")
    reference = layout.image("evil", members)
    with pytest.raises(ImageError):
        store.resolve(reference)
    assert (tmp_path / "secret").read_text() == "kept"
    assert not list(tmp_path.rglob("evil/../evil")) or not (tmp_path / "cache" / "evil").exists()
    assert not list(store.cache.iterdir())


def test_layers_lie_over_each_other(layout: Any, store: ImageStore) -> None:
    def layer(*members: tuple[str, str]) -> dict[str, str]:
        raw = io.BytesIO()
        with tarfile.open(fileobj=raw, mode="w") as archive:
            for name, text in members:
                info = tarfile.TarInfo(name)
                info.size = len(text)
                archive.addfile(info, io.BytesIO(text.encode()))
        return {"digest": layout.blob("two", raw.getvalue())}

    layers = [
        layer(("a", "1"), ("b", "1"), ("d/x", "1"), ("d/y", "1")),
        layer(("a", "2"), (".wh.b", ""), ("d/.wh..wh..opq", ""), ("d/z", "2")),
    ]
    manifest = {"config": {"digest": layout.blob("two", b"{}")}, "layers": layers}
    root = store.resolve(f"two@{layout.blob('two', json.dumps(manifest).encode())}").root
    assert sorted(str(p.relative_to(root)) for p in root.rglob("*") if p.is_file()) == ["a", "d/z"]
    assert (root / "a").read_text() == "2"


def test_a_truncated_layer_is_refused(layout: Any, store: ImageStore) -> None:
    config = layout.blob("cut", b"{}")
    layer = layout.blob("cut", b"\x1f\x8b\x08\x00 this is no gzip")
    manifest = layout.blob(
        "cut", json.dumps({"config": {"digest": config}, "layers": [{"digest": layer}]}).encode()
    )
    with pytest.raises(ImageError, match="cannot be unpacked"):
        store.resolve(f"cut@{manifest}")
