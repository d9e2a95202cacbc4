"""Recording a running agent to MCAP files, which Foxglove, Rerun and `launch.py replay` open as they are.

`agent.recording.recorder` looks on at the agent, `agent.recording.scribe` writes in a thread of its own, and
`agent.recording.format` says what is written: the reader in ``sensors`` shares it. docs/recording.md has the layout.
"""
