"""Emotions from Persian faces: self-supervised pretraining and honest evaluation in JAX."""

__version__ = "0.1.0"
