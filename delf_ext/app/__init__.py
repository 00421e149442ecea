"""Use cases: plain arguments in, result objects out. No flags, no printing; progress goes to the `log` argument."""
