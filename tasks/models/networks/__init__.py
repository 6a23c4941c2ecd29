"""The networks, in plain Keras."""
