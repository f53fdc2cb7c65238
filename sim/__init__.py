"""Simulated experiments and the simulated detector. Production never imports this package."""
