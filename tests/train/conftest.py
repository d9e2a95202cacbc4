"""What needs torch is collected only where torch is, as `make test` installs none; torchaudio's, where it loads."""

from importlib.util import find_spec

from engines.training.reference import TorchaudioError, torchaudio

TORCH = (
    "test_efficientnet.py",
    "test_face_training.py",
    "test_far_training.py",
    "test_language_command.py",
    "test_language_training.py",
)

collect_ignore = [] if find_spec("torch") else [*TORCH]
if not collect_ignore:
    try:
        torchaudio()
    except TorchaudioError as error:
        print(f"test_far_training.py is left out: {error}")
        collect_ignore.append("test_far_training.py")
