"""See `python tracking/train.py --help`."""

import sys

from mtltrack.cli.train import main

if __name__ == "__main__":
    sys.exit(main())
