"""Pure functions and accumulators that score predictions; the registry knows the modules of the latter."""
