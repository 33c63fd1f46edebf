"""A project with the queue in a database of its own, by the shipped router, and a transaction around each request."""
