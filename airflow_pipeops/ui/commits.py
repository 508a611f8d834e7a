"""Where a person reads the commits that records name: their pages at the forge. Pure."""

from __future__ import annotations

from collections.abc import Iterable

from airflow_pipeops.base.documents import text
from airflow_pipeops.delivery.queries.facts import Fact
from airflow_pipeops.git.forges import commit_url


def pages(facts: Iterable[Fact]) -> dict[str, str]:
    """Find the page of each commit, by the records that name it together with its repository.

    :param facts: the records; what is not believed, or was posted by hand, leads nobody anywhere.
    :return: page by commit; a commit whose repository no record names, or is at no known forge, has none.
    """
    found: dict[str, str] = {}
    for fact in facts:
        repository = text(fact.body.get("repository"))
        if not repository or fact.problem or fact.manual:
            continue
        # The commit beside the body may be of another repository: of the code that a change of desired state ships.
        for commit in map(text, (fact.body.get("commit") or fact.commit, fact.body.get("reverts"))):
            if page := commit_url(repository, commit):
                found.setdefault(commit, page)
    return found
