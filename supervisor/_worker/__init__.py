"""What a worker's function sees, in this process and in a child. Light."""
