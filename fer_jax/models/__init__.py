"""The networks: a backbone, heads, the network that combines them, and pretrained weights."""
