"""One sensor for each pattern."""
