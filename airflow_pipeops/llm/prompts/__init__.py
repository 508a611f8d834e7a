"""A prompt as a deliverable: its file in Git, its digest, and the places that applications read it from."""
