"""Speed and memory, measured by hand; docs/benchmarks.md keeps the tables."""
