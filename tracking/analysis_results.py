"""See `python tracking/analysis_results.py --help`."""

import sys

from mtltrack.cli.analysis import main

if __name__ == "__main__":
    sys.exit(main())
