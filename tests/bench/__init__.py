"""Figures, not tests: ``make bench`` or ``python -m tests.bench [window|align|pipeline|process|encoders|lipsync]``."""
