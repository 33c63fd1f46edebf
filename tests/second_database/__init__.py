"""The queue in a database of its own, chosen by a router of the project's own; the users are in `default`."""
