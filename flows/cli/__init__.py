"""The command `retrain`: its options, the runs that it starts, and its output."""
