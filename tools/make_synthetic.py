"""Write rendered sequences as files, or a picture that shows them; see --help."""

import sys

from mtltrack.cli.make_synthetic import main

if __name__ == "__main__":
    sys.exit(main())
