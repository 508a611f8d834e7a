"""The ledger: every record that was emitted, kept in files that only grow, and an index that can be made anew from them."""
