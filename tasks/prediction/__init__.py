"""Predict with a registered version: check the input, predict in chunks, and keep what was issued."""
