"""Draw the conditions that are rendered onto training frames; see --help."""

import sys

from mtltrack.cli.show_conditions import main

if __name__ == "__main__":
    sys.exit(main())
