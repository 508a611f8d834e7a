"""Batch scoring: a model version scores a partition once, with contracts before and after, and says what of."""
