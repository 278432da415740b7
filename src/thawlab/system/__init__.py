"""Below everything: files written whole, text from outside made safe, signals; imports nothing else of thawlab."""
