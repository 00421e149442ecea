"""`python -m delf_ext.nsml`: the console command, where it is not installed."""

import sys

from delf_ext.nsml.cli import main

sys.exit(main())
