"""The shared language: deliverables, records, the ledger and its trace. Depends on nothing else here."""
