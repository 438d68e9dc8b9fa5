"""A space of tiny networks, and a data set that they can learn."""

from toy_networks import stripes, toy

__all__ = ["stripes", "toy"]
