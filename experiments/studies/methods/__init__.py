"""All presets under one budget: `python -m experiments.studies.methods --help`."""
