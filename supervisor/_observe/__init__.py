"""What is logged, published and counted."""
