"""Layers that XLA does badly, with a reference and a kernel behind one lowering."""
