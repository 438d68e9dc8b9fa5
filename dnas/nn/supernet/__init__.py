"""Cells whose edges mix candidates."""
