"""Configs of the command line, one for each experiment."""
