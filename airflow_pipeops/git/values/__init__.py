"""Edit one value of a YAML document, and no other byte."""
