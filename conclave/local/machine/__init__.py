"""What a stack needs of its machine: child processes that leave nothing behind, and ports that stay free."""
