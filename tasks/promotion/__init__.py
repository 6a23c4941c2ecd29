"""Promotion: the rule that decides whether a candidate becomes champion, and the log and aliases that follow from it."""
