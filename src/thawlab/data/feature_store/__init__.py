"""Activations on the disk: entries, files and checksums, locks and budget; knows no network."""
