"""The command line: scripts and their configs."""
