"""How fast the lab is and what it costs, measured: `python -m benchmarks` runs all of it."""
