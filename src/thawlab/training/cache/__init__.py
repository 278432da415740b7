"""Each phase goes on from stored activations of its frozen stages; imported by `training` and `runs`."""
