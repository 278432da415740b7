"""The cut at the freeze boundary: found, verified, run as two halves; imported by `training`."""
