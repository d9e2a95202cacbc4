"""The clocks of other hosts."""
