"""Hold the module `nsml` that the code of a session imports.

A session has this folder first on its PYTHONPATH.
"""
