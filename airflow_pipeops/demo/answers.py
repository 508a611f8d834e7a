"""What the Delivery page answers at the end of the story, held against the endpoints, Git and the registry."""

from __future__ import annotations

from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

from airflow_pipeops.demo.model_track import NAME as MODEL
from airflow_pipeops.demo.model_track import ModelTrack
from airflow_pipeops.demo.service_track import NAME as SERVICE
from airflow_pipeops.demo.service_track import ServiceTrack
from airflow_pipeops.exceptions import NotFound

if TYPE_CHECKING:
    from airflow_pipeops.demo.teller import Teller

#: The file by which Git says what runs in production.
_FILES = {
    SERVICE: f"apps/{SERVICE}/overlays/production/kustomization.yaml",
    MODEL: f"apps/{MODEL}/overlays/production/model.yaml",
}


def check(teller: Teller, releases: dict[str, str]) -> None:
    """Claim that the page tells what is in production, and what it was made from.

    :param teller: of the story.
    :param releases: id of the release that is live in production, by deliverable.
    """
    teller.chapter("The Delivery page answers what runs where, and what it was made from")
    found = {name: _passport(teller, name, release) for name, release in releases.items()}
    for name, passport in found.items():
        steps = passport["walk"]["steps"]
        gaps = [step["id"] for step in steps if step["fact"] is None or step["fact"]["problem"]]
        teller.claims.check(f"the page's passport of {name} has no gap", not gaps, gaps)
        if name in _FILES:
            _placed(teller, name, _said(passport))
    if SERVICE in found:
        image = _nearest(found[SERVICE], "image", SERVICE)
        digest = ServiceTrack(teller).digest("production")
        teller.claims.equal(
            "the page names the image that Git wants in production", image.get("digest"), digest
        )
    if MODEL in found:
        model = _nearest(found[MODEL], "model", MODEL)
        named = {"version": str(model.get("version")), "sha256": model.get("sha256")}
        teller.claims.equal(
            "the page names the model that production serves", named, ModelTrack(teller).live()
        )
        said, digest = _said(found[MODEL])["Made from which data?"], _trained_on(teller, found[MODEL])
        teller.claims.check("the page names the data that the model was made from", digest in said, said)
    teller.say(f"    Look at it: {teller.api.url}/plugin/delivery")


def _passport(teller: Teller, deliverable: str, release: str) -> dict[str, Any]:
    """Wait until the ledger has taken up the release, and ask for its passport."""

    def look() -> dict[str, Any] | None:
        try:
            found = teller.api.delivery(f"passport/{deliverable}@production")
        except NotFound:
            return None
        return found if found["walk"]["steps"][0]["id"] == release else None

    return dict(teller.wait(f"the ledger has the release of {deliverable}", look))


def _said(passport: dict[str, Any]) -> dict[str, str]:
    return {one["question"]: one["answer"] for one in passport["answers"]}


def _placed(teller: Teller, name: str, said: dict[str, str]) -> None:
    """Claim that the page names the commit that put it there, since when it is there, and the person who agreed."""
    commit, at = teller.git("log", "-1", "--format=%H %ct", "main", "--", _FILES[name]).split()
    which = said["Deployed by which commit?"]
    teller.claims.equal(f"the page names the commit that deployed {name}", which.split()[0], commit[:12])
    since = datetime.strptime(said["Since when?"], "%Y-%m-%d %H:%M:%S UTC").replace(tzinfo=timezone.utc)
    teller.claims.check(
        f"the page says since when {name} is live: not before that commit",
        int(at) <= since.timestamp() <= datetime.now(timezone.utc).timestamp(),
        since,
    )
    teller.claims.equal(f"the page names who agreed to {name}", said["Approved by whom?"], "admin")


def _trained_on(teller: Teller, passport: dict[str, Any]) -> str:
    """Compute from the files themselves how the digest of the data begins, as the page shows it."""
    from airflow_pipeops.base.tables import read

    names = _nearest(passport, "dataset", MODEL)["batch"].split("+")
    return read([(teller.stack.home / "data" / name).as_uri() for name in names]).digest[:12]


def _nearest(passport: dict[str, Any], kind: str, deliverable: str) -> dict[str, Any]:
    facts = [step["fact"] for step in passport["walk"]["steps"] if step["fact"]]
    own = (fact["body"] for fact in facts if (fact["kind"], fact["deliverable"]) == (kind, deliverable))
    return next(own, {})
