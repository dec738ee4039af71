"""What is decided: pure and synchronous. Clock, randomness and budgets are arguments, decisions are values."""
