"""Benchmarks: suites of models and seeds, the runner, and what makes a leaderboard of its result rows."""
