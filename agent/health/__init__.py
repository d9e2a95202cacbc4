"""How the agent is: what is counted, what ails its sources, and who is told."""
