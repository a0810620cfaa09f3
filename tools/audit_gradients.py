"""Prove where the gradient of every loss arrives; see --help and docs/gradients.md."""

import sys

from mtltrack.cli.audit import main

if __name__ == "__main__":
    sys.exit(main())
