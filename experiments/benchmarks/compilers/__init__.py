"""What the compilers of GPUs and TPUs make of a search step, on a machine without either."""
