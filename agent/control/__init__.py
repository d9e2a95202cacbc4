"""What may be asked of a running agent, and what it may do at all."""
