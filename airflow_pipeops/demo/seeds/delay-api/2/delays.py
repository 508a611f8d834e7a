"""Mean departure delay in 2013, in minutes, from the flights of New York."""

_MEAN = {"EWR": 15.1, "JFK": 12.1, "LGA": 10.3}


def mean_delay(origin):
    """Return the mean delay from an airport, or of all of them for NYC; None where it is not one of New York's."""
    if origin == "NYC":
        return round(sum(_MEAN.values()) / len(_MEAN), 1)
    return _MEAN.get(origin)
