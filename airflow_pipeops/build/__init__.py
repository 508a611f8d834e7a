"""Test a source tree, build its image, and smoke-test what runs."""
