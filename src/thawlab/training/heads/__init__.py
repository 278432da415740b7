"""Many linear heads trained at once on the same features; imported by `training` and `runs`."""
