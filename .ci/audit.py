"""Looks for known vulnerabilities in what is installed: ``audit.py COMMAND…``, a pip-audit with ``--format json``.

Exit code 1 where there is one. What could not be audited, because the service of advisories or the package's entry
there could not be had, is said loudly and does no harm: a build must be possible without that service.
"""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

TIMEOUT_S = 300
OUR_OWN = frozenset({"attune"})
INSTALLERS = frozenset({"pip", "setuptools"})
"""They come with every virtual environment, and the agent runs without them."""
SHOWN = 5
"""Names of packages that a line shows at most."""


def judged(packages: list[dict[str, Any]]) -> tuple[list[str], int]:
    """What is to be said of pip-audit's ``dependencies``, and the exit code."""
    packages = [package for package in packages if package["name"] not in OUR_OWN | INSTALLERS]
    unaudited = [package for package in packages if "skip_reason" in package]
    lines = []
    for package in packages:
        for flaw in package.get("vulns", ()):
            known_as = ", ".join([flaw["id"], *flaw.get("aliases", ())])
            mended = ", ".join(flaw.get("fix_versions", ())) or "no version yet"
            lines.append(f"VULNERABLE: {package['name']} {package['version']}: {known_as}; mended in: {mended}")
    flaws = len(lines)
    if unaudited:
        names = ", ".join(package["name"] for package in unaudited[:SHOWN])
        more = f" and {len(unaudited) - SHOWN} more" if len(unaudited) > SHOWN else ""
        lines.append(f"NOT AUDITED: {names}{more}; the first because: {unaudited[0]['skip_reason']}")
    audited = len(packages) - len(unaudited)
    lines.append(f"audit: {audited} of {len(packages)} packages audited, {flaws} known vulnerabilities")
    return lines, 1 if flaws else 0


def main(command: list[str]) -> int:
    """Run the command and say what it found."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT_S, check=False)
        packages = json.loads(done.stdout)["dependencies"]
    except (OSError, subprocess.TimeoutExpired) as error:
        lines, code = [f"NOT AUDITED: {error}"], 0
    except ValueError:  # it ends with a traceback where the service cannot be reached
        why = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
        lines, code = [f"NOT AUDITED: no report from {command[0]}: {why}"], 0
    else:
        lines, code = judged(packages)
    print("\n".join(lines))
    return code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
