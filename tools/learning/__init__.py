"""The parts of `tools/learn_check.py`."""
