"""A model as an API: the server, its protocol, and the proof that the right model answers."""
