"""What `import nsml` finds in a session."""

from delf_ext.nsml.session import *  # noqa: F403
