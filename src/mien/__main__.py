"""`python -m mien` is the command `mien`."""

import sys

from .cli import main

sys.exit(main())
