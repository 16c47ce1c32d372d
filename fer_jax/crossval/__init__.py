"""Cross-validation: labelled faces, protocols, and the methods that are trained in a fold."""
