"""From a configuration to trained weights and test metrics; imported by `runs`, `launch` and the commands."""
