"""Predictions that were kept, the labels that came later, and how well each cohort of predictions did."""
