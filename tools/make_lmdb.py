"""Pack a data set's folder into an LMDB; see --help."""

import sys

from mtltrack.cli.make_lmdb import main

if __name__ == "__main__":
    sys.exit(main())
