"""What is said: every event, value and identifier that crosses a process boundary, and the pipeline as a table."""
