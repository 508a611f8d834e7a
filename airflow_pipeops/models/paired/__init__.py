"""Two models on the same rows: by how much one is better, how sure that is, and what follows from it."""
