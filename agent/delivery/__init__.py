"""What waits between a producer and a slower reader, what gives way, and what is counted."""
