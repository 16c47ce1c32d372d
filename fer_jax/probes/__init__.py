"""Probes of a backbone during training: accuracies of simple classifiers, and pictures."""
