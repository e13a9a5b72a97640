"""``python -m vtune`` is the command line."""

import sys

from vtune.cli import main

sys.exit(main())
