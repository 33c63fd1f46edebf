"""What `run.py` does once its environment is there: the demo, the tests and the checks."""
