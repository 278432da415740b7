"""Which runs are compared: chosen, grouped, with predictions aligned; knows nothing of statistics."""
