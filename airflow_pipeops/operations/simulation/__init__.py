"""All loops together for simulated years: the shipped decisions, in a world whose truth is known."""
