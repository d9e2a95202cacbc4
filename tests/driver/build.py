"""``python -m tests.driver.build FOLDER``: pycuda and two cuda-bindings, over a stand-in of the driver.

pycuda is compiled out of the sources on the package index with CUDA's headers from there, without nvcc and unoptimised,
file by file on all cores; Attune's own `libcuda.c` becomes the ``libcuda.so.1`` that all of them load.
"""

import hashlib
import os
import shlex
import shutil
import subprocess
import sys
import sysconfig
import tarfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from zipfile import ZipFile

import numpy as np

PYCUDA = "pycuda==2026.1"
HEADERS = ("nvidia-cuda-runtime-cu12==12.9.79", "nvidia-cuda-profiler-api-cu12==12.9.79")
BINDINGS = {"bindings-12": "cuda-bindings==12.9.4", "bindings-13": "cuda-bindings==13.5.0"}
DEFINES = {  # those of pycuda's own setup.py, with the Boost that it ships and without cuRAND and OpenGL
    "BOOST_ALL_NO_LIB": "1",
    "BOOST_THREAD_BUILD_DLL": "1",
    "BOOST_MULTI_INDEX_DISABLE_SERIALIZATION": "1",
    "BOOST_PYTHON_SOURCE": "1",
    "BOOST_THREAD_DONT_USE_CHRONO": "1",
    "boost": "pycudaboost",
    "PYGPU_PACKAGE": "pycuda",
    "PYGPU_PYCUDA": "1",
}
STAND_IN = Path(__file__).with_name("libcuda.c")


def main(folder: Path) -> None:
    """Make `folder`, unless it is there: ``lib/libcuda.so.1``, ``pycuda/``, and one folder for each of `BINDINGS`."""
    done = folder / "made-from"
    wanted = hashlib.sha256(Path(__file__).read_bytes() + STAND_IN.read_bytes()).hexdigest()
    if done.exists() and done.read_text() == wanted:
        return
    print("== pycuda: compiling it for the tests, which run it over a stand-in of the driver", flush=True)
    shutil.rmtree(folder, ignore_errors=True)
    downloads = folder / "downloads"
    pip("download", "--no-deps", "--dest", downloads, *HEADERS)
    pip("download", "--no-deps", "--no-binary", "pycuda", "--dest", downloads, PYCUDA)
    for name, package in BINDINGS.items():
        pip("install", "--target", folder / name, package)
    for wheel in downloads.glob("*.whl"):
        with ZipFile(wheel) as archive:
            archive.extractall(downloads)
    with tarfile.open(next(downloads.glob("pycuda-*.tar.gz"))) as archive:
        archive.extractall(downloads, filter="data")
    includes = [header.parent for header in downloads.glob("nvidia/*/include/cuda*.h")]
    source = next(downloads.glob("pycuda-*/"))
    *objects, structures = compiled(source, includes)
    stand_in(folder / "lib" / "libcuda.so.1", includes, objects)
    shutil.copytree(source / "pycuda", folder / "pycuda")
    suffix = sysconfig.get_config_var("EXT_SUFFIX")
    library = ("-l:libcuda.so.1", f"-L{folder / 'lib'}", "-lpthread")
    run("g++", "-shared", *objects, "-o", folder / "pycuda" / f"_driver{suffix}", *library)
    run("g++", "-shared", structures, "-o", folder / "pycuda" / f"_pvt_struct{suffix}")
    shutil.rmtree(downloads)
    done.write_text(wanted)


def pip(*arguments: str | Path) -> None:
    run(sys.executable, "-m", "pip", arguments[0], "--quiet", "--disable-pip-version-check", *arguments[1:])


def run(*command: str | Path) -> str:
    """What it wrote on standard output."""
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"{shlex.join(str(word) for word in command)} failed:\n{done.stdout[-4000:]}{done.stderr[-4000:]}")
    return done.stdout


def compiled(source: Path, includes: list[Path]) -> list[Path]:
    """The object files of pycuda's ``_driver``, and at the end the one of its ``_pvt_struct``.

    Each library of Boost goes as one file, which reads their common headers once: a fifth of the time.
    """
    boost = source / "bpl-subset" / "bpl_subset"
    (boost / "pycudaboost").symlink_to("boost")
    sources = [source / "src" / "wrapper" / name for name in ("wrap_cudadrv.cpp", "mempool.cpp")]
    sources += [source / "src" / "cpp" / name for name in ("cuda.cpp", "bitlog.cpp")]
    for library in sorted((boost / "libs").iterdir()):
        whole = source / f"{library.name}.cpp"
        parts = [path for path in sorted(library.rglob("*.cpp")) if wanted(path)]
        whole.write_text("".join(f'#include "{path.resolve()}"\n' for path in parts))
        sources.append(whole)
    sources.append(source / "src" / "wrapper" / "_pvt_struct_v3.cpp")
    paths = [source / "src" / "cpp", boost, *includes, np.get_include(), sysconfig.get_path("include")]
    flags = ["-fPIC", "-O0", "-w", "-DNDEBUG", *(f"-D{name}={value}" for name, value in DEFINES.items())]
    flags += (f"-I{path}" for path in paths)

    def one(path: Path) -> Path:
        made = path.with_suffix(".o")
        run("g++", *flags, "-c", path, "-o", made)
        return made

    with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
        return list(pool.map(one, sources))


def wanted(path: Path) -> bool:
    """Whether pycuda's own setup.py takes this source of Boost on Linux."""
    return path.parts[-3:-1] != ("thread", "src") and "win32" not in path.parts and path.name != "once_atomic.cpp"


def stand_in(library: Path, includes: list[Path], objects: list[Path]) -> None:
    """The driver. What these objects name of a real one and ours has not is there as well, and not supported."""
    library.parent.mkdir(parents=True)
    named = sorted({line.split()[-1] for line in run("nm", "-u", *objects).splitlines() if " U cu" in line})
    rest = library.with_name("rest.c")
    rest.write_text("".join(f"__attribute__((weak)) int {name}(void) {{ return 801; }}\n" for name in named))
    flags = ["-shared", "-fPIC", "-O1", "-g", "-Wall", "-Werror", "-Wl,-soname,libcuda.so.1"]
    run("gcc", *flags, *(f"-I{path}" for path in includes), "-o", library, STAND_IN, rest, "-lpthread", "-ldl")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
