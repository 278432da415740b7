"""One module a dataset, loaded by its name when it is chosen; `contract` says what such a module provides."""
