"""Methods under one budget."""
