"""Is the released model worse than the one before, and how to go back: Git and the registry as one act."""
