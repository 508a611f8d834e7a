"""One side opened and boiled down: generated SQL, and the engines that run it."""
