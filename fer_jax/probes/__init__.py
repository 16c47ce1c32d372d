"""Probes during training: accuracies of simple classifiers on a backbone's features; pictures."""
