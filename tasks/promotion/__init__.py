"""Whether a new version becomes champion, and the acts that follow."""
