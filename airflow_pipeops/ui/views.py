"""Where Airflow shows the page: in its navigation, and as a tab of a DAG, a run and a task. Plain data."""

from __future__ import annotations

#: Each hands on what it stands beside; Airflow writes ids in the form of addresses.
_TABS = {
    "dag": "?dag={DAG_ID}",
    "dag_run": "?dag={DAG_ID}&run={RUN_ID}",
    "task_instance": "?dag={DAG_ID}&run={RUN_ID}&task={TASK_ID}&map={MAP_INDEX}",
}

#: No address begins with a slash: so they hold under any base path.
VIEWS = [
    {
        "name": "Delivery",
        "href": f"pipeops/page{query}",
        "destination": destination,
        "url_route": route,
        "icon": "pipeops/static/icons/delivery.svg",
        "icon_dark_mode": "pipeops/static/icons/delivery-dark.svg",
        **({"nav_top_level": True} if destination == "nav" else {}),
    }
    for destination, route, query in (
        ("nav", "delivery", ""),
        *((name, f"delivery-{name.replace('_', '-')}", query) for name, query in _TABS.items()),
    )
]
