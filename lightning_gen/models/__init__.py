"""One file a model; each is found by its entry point."""
