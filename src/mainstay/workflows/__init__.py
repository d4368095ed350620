"""Work that outlives a request: jobs in a queue, workers that take them, leases that run out, fences that hold."""
