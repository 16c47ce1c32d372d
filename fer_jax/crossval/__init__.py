"""Cross-validation: labelled faces, protocols, and the methods that make a model in each fold."""
