"""What a model was made from, in so much detail that it can be made again, and whether it then is the same."""
