"""Run the command `nsml` as `python -m delf_ext.nsml`."""

import sys

from delf_ext.nsml.cli import main

sys.exit(main())
