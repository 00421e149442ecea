"""How good a ranking is: metrics with stated denominators, intervals over queries, comparison, a page to show."""
