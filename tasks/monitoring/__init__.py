"""Watch a model at work: its errors, its inputs and its sensors, and what each finding means."""
