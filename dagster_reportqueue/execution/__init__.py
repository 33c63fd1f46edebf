"""How a run makes its reports: it starts the row, renews the lease, does the work, and reports the result."""
