"""The networks: Inception-ResNet-v2, heads, their combination, and pretrained weights."""
