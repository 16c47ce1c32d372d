"""How good predictions are: accuracy and other measures, calibration, and confidence intervals."""
