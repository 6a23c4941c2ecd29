"""Look at an installation from outside: what is wrong with it, and what cures it. Nothing is changed by looking."""
