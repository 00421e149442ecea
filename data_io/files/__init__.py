"""Find, recognise, lock and write files."""
