"""Studies: a folder each, with what it runs, its settings and its records."""
