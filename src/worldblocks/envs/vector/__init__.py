"""Several environments in lockstep, in this process or each in a worker."""
