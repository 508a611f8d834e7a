"""From aggregates of two sides to verdicts: of a column, and of the data set. Pure."""
