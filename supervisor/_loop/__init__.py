"""What the library asks of an event loop."""
