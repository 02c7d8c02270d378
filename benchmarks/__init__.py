"""Measurements: one script per claim, each with a machine-readable result and its line in `README.md`."""
