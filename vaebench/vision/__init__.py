"""Frozen networks with their own preprocessing, and the one crop-and-resize function."""
