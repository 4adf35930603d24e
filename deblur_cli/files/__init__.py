"""The outside world: photographs, checkpoints, weights, data sets."""
