"""Desired against observed: the tracker compares, the loop makes them equal, the report tells."""
