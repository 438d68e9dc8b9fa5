"""Reading back what a run wrote, so that damage is noticed before anything is believed.

What is sealed carries a checksum of its own content: a changed digit is still JSON.
"""

import io
import json
import zlib
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

_CHECKSUM = "checksum"
_DEEPEST = 100  # Python's own limit is about ten times that, and shared with what reads on
_TOO_DEEP = "it is nested too deeply"


def parse_json(data: bytes) -> Any:
    """What JSON text says.

    Raises:
      ValueError: it is none, or nested deeper than anything that runs write.
    """
    try:
        parsed = json.loads(data)
    except RecursionError:
        raise ValueError(_TOO_DEEP) from None
    level = [parsed]
    for _ in range(_DEEPEST):
        level = [item for value in level for item in _items(value)]
    if level:
        raise ValueError(_TOO_DEEP)
    return parsed


def parse_arrays(data: bytes) -> dict[str, np.ndarray]:
    """The arrays of an ``.npz``, never those that would have to be unpickled.

    Raises:
      ValueError: it is none.
    """
    try:
        with np.load(io.BytesIO(data), allow_pickle=False) as arrays:
            return dict(arrays)
    except Exception as error:  # of zipfile, zlib and numpy, some a dozen kinds
        raise ValueError(brief(error)) from error


def seal(data: Mapping[str, Any], line: int = 0) -> dict[str, Any]:
    """Data for JSON with a checksum.

    Args:
      data: what to seal.
      line: its number among lines that are sealed one by one, so that a line that is missing or
        doubled is noticed.
    """
    return {**data, _CHECKSUM: _checksum(data, line)}


def unseal(sealed: Any, line: int = 0) -> dict[str, Any]:
    """The data in what `seal` made.

    Raises:
      ValueError: it is something else, was changed, or is of another line.
    """
    if not isinstance(sealed, dict) or _CHECKSUM not in sealed:
        raise ValueError("it has no checksum")
    data = {name: value for name, value in sealed.items() if name != _CHECKSUM}
    if _checksum(data, line) != sealed[_CHECKSUM]:
        raise ValueError("its checksum is wrong")
    return data


def brief(error: BaseException, length: int = 160) -> str:
    """An error in words that fit into a line: libraries send pages."""
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= length else text[: length - 3] + "..."


def _items(value: Any) -> Iterable[Any]:
    if isinstance(value, dict):
        return value.values()
    return value if isinstance(value, list) else ()


def _checksum(data: Mapping[str, Any], line: int) -> int:
    return zlib.crc32(json.dumps(data, sort_keys=True).encode(), line)
