"""A Git repository: commits of desired state that lose nothing."""
