"""Train, test and record one run, or a sweep with -m: the same as `thawlab train`."""

import sys

from thawlab.cli.main import train

if __name__ == "__main__":
    sys.exit(train(sys.argv[1:]))
