"""Serve a registered version over HTTP: typed requests, one batch at a time, the alias followed without a restart."""
