"""Run the verbs of the command line: one module per verb, each with a function `run(flags)`."""
