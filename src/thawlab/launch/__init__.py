"""From a command line to jobs to processes; imported by the commands alone."""
