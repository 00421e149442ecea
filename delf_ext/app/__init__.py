"""Use cases: plain arguments in, result objects out.

No function here reads flags or prints; progress goes to the `log` argument.
"""
