"""Search spaces: their decisions, supernets and discrete networks."""

from dnas.spaces.darts import DARTS
from dnas.spaces.nas_bench_201 import NASBench201

__all__ = ["DARTS", "NASBench201"]
