"""A small cluster on one machine: live objects, and Deployments, Jobs and Services as local processes.

For demos and tests, on loopback only. The way in is :class:`~airflow_pipeops.demo.sandbox.runtime.cluster.Cluster`.
"""

from __future__ import annotations
