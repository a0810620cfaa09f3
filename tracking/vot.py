"""See `python tracking/vot.py --help`."""

import sys

from mtltrack.cli.vot import main

if __name__ == "__main__":
    sys.exit(main())
