"""Tabular benchmarks: what is known of every architecture of a space."""

from dnas.benchmarks.nas_bench_201 import NASBench201

__all__ = ["NASBench201"]
