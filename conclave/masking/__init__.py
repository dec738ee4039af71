"""What is masked beyond the patterns that ship: Microsoft Presidio, where an operator asks for it."""
