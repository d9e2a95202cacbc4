"""The bundled session: a short story in which face, voice and text come, go, agree and disagree.

The agent reads only the four session files; the modules here made them (`python -m sensors.demo.make_session`).
"""
