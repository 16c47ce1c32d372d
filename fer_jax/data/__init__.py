"""From folders on disk to batches: labels, records, sources and Grain iterators."""
