"""A certificate authority of a test's own, made with the command line of OpenSSL."""

import subprocess
from pathlib import Path

KEY = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")


def _openssl(*words: str | Path) -> None:
    subprocess.run(["openssl", *words], check=True, capture_output=True)


class Authority:
    """Signs certificates; `folder` has them as ``NAME.pem`` and their keys as ``NAME.key``."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir()
        self.folder = folder
        self.certificate = folder / "ca.pem"
        self._key = folder / "ca.key"
        out = ("-keyout", self._key, "-out", self.certificate)
        _openssl("req", "-x509", *KEY, *out, "-days", "2", "-subj", "/CN=Test authority")

    def issue(self, name: str, *, address: str = "") -> tuple[Path, Path]:
        """Certificate and key of that common name; a server's is for an ``address``, such as ``IP:127.0.0.1``."""
        certificate, key, request = (self.folder / f"{name}.{kind}" for kind in ("pem", "key", "csr"))
        extensions = self.folder / f"{name}.ext"
        extensions.write_text(f"subjectAltName={address}\n" if address else "basicConstraints=CA:FALSE\n")
        _openssl("req", *KEY, "-keyout", key, "-out", request, "-subj", f"/CN={name}")
        signed = ("-CA", self.certificate, "-CAkey", self._key, "-CAcreateserial", "-days", "2")
        _openssl("x509", "-req", "-in", request, *signed, "-out", certificate, "-extfile", extensions)
        key.chmod(0o600)
        return certificate, key
