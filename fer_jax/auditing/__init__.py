"""Detection of leakage between training and test faces, before a model is trained."""
