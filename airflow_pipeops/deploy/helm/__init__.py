"""Releases of Helm charts: installed, upgraded, waited for, and rolled back."""
