"""Run directories: one format for every model, and what opens one."""
