"""Chips that programs can be compiled for without having one."""

import dataclasses
import math
import pathlib
import re
from typing import Any

GPUS = ("h100", "h200")
TPUS = {"v5e": 2, "v6e": 2, "v5p": 3}  # with the dimensions of their tori
_FOLDER = pathlib.Path(__file__).parent


@dataclasses.dataclass(frozen=True)
class Target:
    """Chips of one kind; `parse` checks and makes it.

    Attributes:
      chip: name of the kind.
      shape: how many chips, in each direction of their network.
    """

    chip: str
    shape: tuple[int, ...]

    @property
    def platform(self) -> str:
        """JAX's name of the platform."""
        return "cuda" if self.chip in GPUS else "tpu"

    @property
    def chips(self) -> int:
        """How many chips."""
        return math.prod(self.shape)

    def __str__(self) -> str:
        return f"{self.chip}:{'x'.join(map(str, self.shape))}"

    def devices(self) -> list[Any]:
        """Devices to compile for; nothing can run on them.

        Raises:
          RuntimeError: the compiler is not installed, or knows no such network of chips.
        """
        from jax.experimental import topologies

        if self.platform == "tpu":
            # A single chip is a host of its own; others come as their hosts have them.
            host = {"chips_per_host_bounds": (1, 1, 1)} if self.chips == 1 else {}
            return topologies.get_topology_desc(str(self), "tpu", **host).devices
        config = (_FOLDER / f"{self.chip}.txtpb").read_text()
        topology = f"1x1x{self.chips}"  # slices, hosts of a slice, GPUs of a host
        return topologies.get_topology_desc(
            topology, "cuda", topology=topology, target_config=config
        ).devices


def parse(name: str) -> Target:
    """Reads ``'h100'``, ``'h100:4'``, ``'v5e:2x2'`` or ``'v5p:2x2x1'``; one chip by default.

    Raises:
      ValueError: it has another form.
    """
    chip, colon, shape = name.partition(":")
    dimensions = 1 if chip in GPUS else TPUS.get(chip, 0)
    sizes = [int(n) for n in shape.split("x")] if re.fullmatch(r"\d+(x\d+)*", shape) else []
    sizes = sizes if colon else [1] * dimensions
    if not dimensions or len(sizes) != dimensions or 0 in sizes:
        raise ValueError(
            f"target={name!r}: expected one of {', '.join((*GPUS, *TPUS))}, alone or with a number "
            "of chips: h100:4, v5e:2x2, v5p:2x2x1"
        )
    return Target(chip, tuple(sizes))
