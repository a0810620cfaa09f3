"""See `python tracking/export_weights.py --help`."""

import sys

from mtltrack.cli.export_weights import main

if __name__ == "__main__":
    sys.exit(main())
