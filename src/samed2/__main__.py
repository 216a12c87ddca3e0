"""`python -m samed2` is the same as the command `samed2`."""

from __future__ import annotations

import sys

from samed2.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
