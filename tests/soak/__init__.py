"""The soak: hours of an endless session on the virtual clock, minutes of the demo by the real one, and what they hold.

``python -m tests.soak virtual`` and ``python -m tests.soak live``; `make soak` runs both in their long form, the test
here a short one of the first.
"""
