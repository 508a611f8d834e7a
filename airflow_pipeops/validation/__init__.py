"""Data-quality gates: Great Expectations suites over batches of data, and the trigger that sees batches arrive."""
