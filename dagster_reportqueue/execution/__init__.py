"""What a run does around its reports: start, keep the lease, do the work, report the end."""
