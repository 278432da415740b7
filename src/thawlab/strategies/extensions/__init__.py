"""Changes of the network that a strategy asks for: one module each; `contract` says what it provides."""
