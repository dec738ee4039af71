"""What the memory of Conclave's processes is made of, and whether it grows."""
