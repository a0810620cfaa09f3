"""The parts of `tools/fault_drill.py`: each module breaks one thing and looks at what is left."""
