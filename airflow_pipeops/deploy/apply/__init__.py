"""Manifests applied on the server: as a set that is pruned, in order, and never an older commit over a newer one."""
