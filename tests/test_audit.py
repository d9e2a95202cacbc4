"""What becomes of pip-audit's reports: a known vulnerability fails, what could not be audited is said."""

import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

ROOT = Path(__file__).parent.parent
SOUND = {"name": "numpy", "version": "2.3.0", "vulns": []}
UNKNOWN = {"name": "mcap", "skip_reason": "Dependency not found on PyPI and could not be audited: mcap (1.3.0)"}
FLAWED = {
    "name": "h11",
    "version": "0.14.0",
    "vulns": [{"id": "PYSEC-2025-1", "aliases": ["CVE-2025-43859"], "fix_versions": ["0.16.0"]}],
}


def audit(*command: str) -> tuple[int, str]:
    done = subprocess.run([sys.executable, ROOT / ".ci" / "audit.py", *command], capture_output=True, text=True)
    assert not done.stderr
    return done.returncode, done.stdout


def of(folder: Path, *packages: Mapping[str, object]) -> tuple[int, str]:
    (folder / "report.json").write_text(json.dumps({"dependencies": packages, "fixes": []}))
    return audit("cat", str(folder / "report.json"))


def test_a_known_vulnerability_fails_and_says_what_mends_it(tmp_path: Path) -> None:
    code, said = of(tmp_path, SOUND, FLAWED, UNKNOWN)
    assert code == 1
    assert "VULNERABLE: h11 0.14.0: PYSEC-2025-1, CVE-2025-43859; mended in: 0.16.0" in said
    assert "2 of 3 packages audited, 1 known" in said


def test_what_was_not_audited_is_said_and_fails_nothing(tmp_path: Path) -> None:
    code, said = of(tmp_path, SOUND, UNKNOWN)
    assert code == 0
    assert "NOT AUDITED: mcap; the first because: Dependency not found on PyPI" in said
    assert "1 of 2 packages audited, 0 known" in said


def test_what_every_environment_has_and_what_is_our_own_is_no_dependency(tmp_path: Path) -> None:
    code, said = of(tmp_path, SOUND, {**FLAWED, "name": "setuptools"}, {**UNKNOWN, "name": "attune"})
    assert (code, said) == (0, "audit: 1 of 1 packages audited, 0 known vulnerabilities\n")


def test_a_service_that_cannot_be_reached_is_said_and_fails_nothing(tmp_path: Path) -> None:
    code, said = audit("sh", "-c", "echo Traceback >&2; echo 'ConnectionError: no route' >&2; exit 1")
    assert code == 0
    assert said == "NOT AUDITED: no report from sh: ConnectionError: no route\n"
    code, said = audit(str(tmp_path / "pip-audit"))
    assert code == 0
    assert "NOT AUDITED" in said
    assert "pip-audit" in said
