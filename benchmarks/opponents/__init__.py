"""The project's own training and what a user would use instead, each in a process of its own that takes turns."""
