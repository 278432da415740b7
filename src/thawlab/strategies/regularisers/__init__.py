"""Terms that a strategy adds to the loss: one module each, named as it; `contract` says what it provides."""
