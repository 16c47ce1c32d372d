"""Leakage between training and test faces, found before anything is trained."""
