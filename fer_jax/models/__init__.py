"""The networks: Inception-ResNet-v2, heads, and the network that combines them."""
