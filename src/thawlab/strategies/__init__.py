"""One module a strategy: layers in, phases out, as plain data. `contract` says what a module provides, `phases` has its
words; the packages below change the network (`extensions`) or the loss (`regularisers`). Imported by what reads a
configuration, and from `training` up.
"""
