"""Rankings to better rankings: each re-ranker takes a Ranking and returns a new one."""
