"""A model as one JAX function, and as a file that other programs run: ONNX or StableHLO."""
