"""Sensors: where samples come from. Each stamps what it delivers with the instant at which it happened."""
