"""A model at work: behind an API, over batches, and on streams."""
