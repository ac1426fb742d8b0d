"""Pure: decisions and values, with no clock, no thread, no loop and no I/O."""
