"""The version of dnas."""

__version__ = "0.1.0"
