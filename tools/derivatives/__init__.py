"""The checks of `tools/check_derivatives.py`."""
