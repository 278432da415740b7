"""One module a strategy: layers in, phases out, as plain data. `phases` has the words for it; the packages below
change the network (`extensions`) or the loss (`regularisers`). Imported by everything from `training` up.
"""
