"""Comparison with reference outputs of the published trackers (see `tools/check_parity.py`)."""
