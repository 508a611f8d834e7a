"""Questions to the index of the ledger. Each is bounded: it reads by an index, and as many rows as its limit says."""
