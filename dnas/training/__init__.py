"""Training a discrete network by a recipe: settings, pure steps, the run with its files."""
