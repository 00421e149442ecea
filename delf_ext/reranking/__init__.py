"""Re-rank: each step takes a Ranking and returns a new one."""
