"""A model as a streaming service: which model scores which record, the consumer, and the proof of what runs."""
