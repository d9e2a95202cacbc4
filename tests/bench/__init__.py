"""Figures, not tests: ``make bench`` or ``python -m tests.bench [window|pipeline|process|encoders]``."""
