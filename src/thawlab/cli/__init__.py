"""The commands of `thawlab`, one file each; nothing imports this package but `python -m thawlab`."""
