"""What differs between the cluster and what was pushed: a Helm release, or a set that was applied."""
