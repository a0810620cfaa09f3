"""See `python tracking/transform_got10k.py --help`."""

import sys

from mtltrack.cli.transform_results import main

if __name__ == "__main__":
    sys.exit(main("got10k"))
