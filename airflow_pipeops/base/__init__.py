"""Common ground: HTTP, deadlines, retries, arguments, tables, storage, configuration. It knows no subject."""
