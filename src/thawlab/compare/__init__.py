"""From the runs of a sweep to an answer: which configuration is best, by how much, how sure, at what cost;
imported by `launch` and the commands.
"""
