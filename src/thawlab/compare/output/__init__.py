"""A comparison shown: in the terminal, as tables, as plots, as a page."""
