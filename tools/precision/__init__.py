"""Parts of `tools/compare_precision.py`."""
