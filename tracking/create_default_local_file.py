"""Write local.yaml, the file that says where data sets, weights and outputs lie on this machine."""

import sys

from mtltrack.cli.create_default_local_file import main

if __name__ == "__main__":
    sys.exit(main())
