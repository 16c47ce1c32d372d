"""A model as one function of JAX, and the files that other programs run: ONNX and StableHLO."""
