"""The sensors. They are thin: they claim, request runs and return a cursor; the queue decides every status."""
