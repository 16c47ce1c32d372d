"""Evaluation of predictions: accuracy and other measures, calibration, confidence intervals."""
