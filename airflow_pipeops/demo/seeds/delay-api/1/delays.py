"""Mean departure delay in 2013, in minutes, from the flights of New York."""

_MEAN = {"EWR": 15.1, "JFK": 12.1, "LGA": 10.3}


def mean_delay(origin):
    """Return the mean delay from an airport, or None where it is not one of New York's."""
    return _MEAN.get(origin)
