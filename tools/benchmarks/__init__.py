"""What things cost, measured: each module is one benchmark, run as `python3 run.py bench NAME`."""
