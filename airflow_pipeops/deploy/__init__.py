"""Push deployment: what was applied, whether it is ready, and acts on what runs."""
