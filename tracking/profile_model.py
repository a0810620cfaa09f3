"""See `python tracking/profile_model.py --help`."""

import sys

from mtltrack.cli.profile_model import main

if __name__ == "__main__":
    sys.exit(main())
