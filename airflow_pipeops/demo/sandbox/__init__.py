"""The laptop target: a server that speaks Argo CD's REST API and truly reconciles a Git repository.

For demos and tests, not for production: it runs any command that a manifest names, as a local process, and listens on
the loopback only. Start it with ``python -m airflow_pipeops.demo.sandbox serve --state DIR --artifacts DIR``.

Where it differs from Argo CD on purpose:

- one source for each Application, read from ``spec.source``: a folder of YAML or a kustomization, no Helm, no plugins;
- one cluster, its own; any project name is accepted, and there are no sync windows;
- tokens are three fixed ones (``tokens.json``), and their permissions lines in ``policy.csv``;
- ``validate=false`` on a write skips the whole check of the spec, as an edit of the custom resource would;
- an operation that a crash interrupted goes on from the last task that was written down.

======================  ==========================================================================================
module                  holds
======================  ==========================================================================================
server, service         the parts put together; what all routes share
applications, actions,  the routes
streams, account, admin
controller              the loops: look at an Application, carry its operation out
reconciler, operation   one look; one operation (with progress, retry)
compare, plan,          the judgements, pure: what differs, what to do in which order, whether to sync unasked,
autosync, spec          whether a spec is valid
repository, manifests   Git and kustomize; what is in the files
store, watch, auth,     SQLite; subscribers; tokens and policy; faults on demand; JSON shapes
faults, wire, views
runtime/                the cluster: live objects, and the processes behind them
======================  ==========================================================================================
"""
