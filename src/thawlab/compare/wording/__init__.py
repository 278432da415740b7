"""The comparison in words: sentences, notes, columns and numbers for people; knows no file format."""
