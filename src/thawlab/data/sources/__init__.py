"""One module a dataset, with `Settings` and `load`; imported by name when its dataset is chosen."""
