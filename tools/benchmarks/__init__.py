"""The benchmarks: a module for each, run as `python3 run.py bench NAME`, and shared modules."""
