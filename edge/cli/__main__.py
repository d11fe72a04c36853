"""``python -m edge.cli``, which is how units of systemd call ``edgelid``."""

import sys

from edge.cli import main

if __name__ == "__main__":
    sys.exit(main())
