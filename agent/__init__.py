"""The agent's own rooms: time, the sliding window, fusion, the pipeline and what it publishes.

Arrows point inwards: ``launch`` imports ``sensors`` and ``engines``, those import ``agent``, and ``agent`` imports
neither. ``types``, ``clock``, ``window`` and ``fusion`` are pure: they do no I/O and start no task.
"""

import os

# Before numpy is imported: its matrices are small here, and threads that wait for more of them take whole cores.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
