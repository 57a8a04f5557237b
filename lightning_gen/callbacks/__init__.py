"""What happens beside training: records, grids, scores, checkpoints, progress. Each is found by its entry point."""
