"""Prompts in production: what was asked and answered, masked and sampled, watched, and taken back where it is worse."""
