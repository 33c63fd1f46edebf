"""What `run.py` does: the runner, the harness that injects faults, and the benchmarks."""
