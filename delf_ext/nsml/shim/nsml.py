"""Provide our session API under the name `nsml`."""

from delf_ext.nsml.session import *  # noqa: F403
