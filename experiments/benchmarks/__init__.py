"""Speed and memory, measured by hand; results.md keeps the tables."""
