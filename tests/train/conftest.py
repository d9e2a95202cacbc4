"""What needs torch is collected only where torch is: `make test` installs none."""

from importlib.util import find_spec

collect_ignore = [] if find_spec("torch") else ["test_face_training.py", "test_language_training.py"]
