"""The training loop for all tasks: step, optimizer, sharding, checkpoints, logging."""
