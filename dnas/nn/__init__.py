"""Layers, operations and cells: fast on every backend, plain to read."""
