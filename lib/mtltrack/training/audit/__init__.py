"""The gradient audit: which loss reaches which stage of the model, with what size, and no other."""
