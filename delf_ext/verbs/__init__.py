"""What `dual_main.py` can do, one file per verb: each has `run(flags)` and reads only the flags it needs."""
