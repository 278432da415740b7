"""`python -m thawlab`: the same as `thawlab`."""

from thawlab.cli import main

main()
