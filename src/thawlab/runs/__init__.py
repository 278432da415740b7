"""A run, or the runs of heads trained at once, from preparation to what MLflow keeps; imported by `launch`."""
