"""One loop for every task: step, optimizer, sharding, checkpoints, logging."""
