"""What runs for hours, whatever it computes: loop, checkpoints, working directories."""
