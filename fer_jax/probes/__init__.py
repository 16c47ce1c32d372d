"""Accuracies of simple classifiers on a backbone's features, and pictures of these features."""
