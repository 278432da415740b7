"""A comparison shown and written: terminal, tables, page; the last step, imported by the command."""
