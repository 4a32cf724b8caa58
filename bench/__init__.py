"""The bench: what `scripts/bench` runs. One file for each step: allocators → measure → parts → promises → output."""
