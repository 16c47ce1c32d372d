"""What a backbone has learned: linear and nearest-neighbour probes, and pictures of tasks."""
