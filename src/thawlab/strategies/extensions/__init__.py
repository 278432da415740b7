"""Changes of the network that a strategy asks for: one module each; imported by name."""
