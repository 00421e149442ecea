"""First on the path of a session's process, so that user code finds the stand-in as `nsml`."""
