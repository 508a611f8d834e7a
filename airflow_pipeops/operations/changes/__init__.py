"""What changed before something went wrong, and which of it is to be suspected."""
