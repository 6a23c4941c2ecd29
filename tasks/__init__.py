"""What a run does: pure functions, and two files of thin Prefect tasks around them."""
