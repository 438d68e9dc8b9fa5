"""The jobs: the loop and what runs in it (search, training, comparison)."""
