"""The designs, measurements and rankings of `tools/gradient_flow.py`."""
