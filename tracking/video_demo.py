"""See `python tracking/video_demo.py --help`."""

import sys

from mtltrack.cli.video_demo import main

if __name__ == "__main__":
    sys.exit(main())
