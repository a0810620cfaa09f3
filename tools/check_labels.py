"""Check a folder of labels and say what each sequence has; see --help."""

import sys

from mtltrack.cli.check_labels import main

if __name__ == "__main__":
    sys.exit(main())
