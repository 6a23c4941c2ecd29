"""The command `retrain`: what a person types, starts and sees."""
