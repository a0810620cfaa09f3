"""The parts of `tools/benchmark.py`: paired rounds, the limit of the machine, and what is measured."""
