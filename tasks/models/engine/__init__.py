"""How networks run fast: the execution on a device, fast recurrent layers, the training step."""
