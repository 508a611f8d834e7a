"""Common ground: HTTP, deadlines, retries, arguments, redaction, tables, storage, configuration. It knows no subject."""
