"""Faults, injected: real devices, streams, brokers and disks that break in a test, and what becomes of the agent.

docs/reliability.md has the table of all of them, those among it that are tested elsewhere.
"""
