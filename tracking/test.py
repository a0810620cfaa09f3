"""See `python tracking/test.py --help`."""

import sys

from mtltrack.cli.test import main

if __name__ == "__main__":
    sys.exit(main())
