"""``python -m evenseg``."""

import sys

from evenseg.cli import main

if __name__ == "__main__":
    sys.exit(main())
