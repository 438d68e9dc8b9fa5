"""Configs by name: what `dnas search --config=NAME` runs, one for each experiment."""
