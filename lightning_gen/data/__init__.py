"""One file a source; how rows become an endless stream of batches; the exact decoder of `shapes`."""
