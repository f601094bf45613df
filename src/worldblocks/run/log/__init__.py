"""What a run records: metrics, episodes, failures, and the sinks that they go to."""
