"""From a published table to a registered version."""
