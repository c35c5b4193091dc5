"""Packs the kit for a GPU machine that lacks our environment: our code, tokenised batches and pure-Python wheels.

    FSA_DATA_DIR=../shared/data python benchmarks/gpu_kit.py --out .cache/gpu_kit
    bash .cache/gpu_kit/run.sh --out RESULTS --seconds 540     # on the GPU machine

The kit uses the JAX (0.10 to 0.12), Flax, Optax, PyTorch and transformers that it finds there, with Python 3.11 to
3.13; it needs neither TensorFlow nor SeqIO, nor a network. docs/performance.md says how to use it, benchmarks/kit what
it measures. Nothing is downloaded: the wheels are made of the packages that are installed here, without compiled parts.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import tempfile
import time
import zipfile
from importlib import metadata
from pathlib import Path

import numpy as np
from _contender import ROOT, environment

from fsa_base.errors import FsaError, SettingError

CODE = ("base/fsa_base", "runtime/t5x", "fsa_jax", "benchmarks")
CODE_SUFFIXES = (".py", ".sh")
TOKENS = {
    "208_640": ("t5", (208, 640)),
    "128_400": ("t5", (128, 400)),
    "decoder": ("decoder", (128, 400)),
}
"""Model and row lengths by folder of tokens."""
WHEELS = ("clu", "filelock", "jaxtyping", "wadler-lindig", "wrapt")
"""Packages that our code imports besides those that come with Flax."""
LIMIT = 50 * 10**6
"""Bytes of the whole kit."""


def copy_code(kit: Path) -> None:
    """Copies the packages, without what only commands for people need."""
    for name in CODE:
        for file in sorted((ROOT / name).rglob("*")):
            if file.suffix in CODE_SUFFIXES and "__pycache__" not in file.parts:
                target = kit / file.relative_to(ROOT)
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(file, target)
    shutil.copyfile(ROOT / "benchmarks" / "kit" / "run.sh", kit / "run.sh")
    commit = subprocess.run(["git", "rev-parse", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=False)
    (kit / "VERSION").write_text(f"{commit.stdout.strip()} packed {time.strftime('%Y-%m-%d %H:%M')}\n")


def write_tokens(kit: Path) -> None:
    """Tokenises and packs the released teacher text, all folders at once."""
    with tempfile.TemporaryDirectory() as made:
        running = {}
        for name, (model, lengths) in TOKENS.items():
            (Path(made) / name).mkdir()
            command = [sys.executable, "-m", "benchmarks.steps.prepare", f"{made}/{name}", "--model", model]
            command += ["--row_lengths", *map(str, lengths)]
            running[name] = subprocess.Popen(command, cwd=ROOT, env=environment(ROOT))
        codes = [process.wait() for process in running.values()]
        if any(codes):
            sys.exit("no tokens: see above")
        for name in running:
            folder = kit / "tokens" / name
            folder.mkdir(parents=True)
            for file in (Path(made) / name).glob("*.npz"):
                np.savez_compressed(folder / file.name, **np.load(file))


def write_wheel(distribution: metadata.Distribution, folder: Path) -> None:
    """Makes a wheel of an installed package, of its Python files only.

    Raises:
      SettingError: the package was installed without a list of its files.
    """
    name = distribution.metadata["Name"].replace("-", "_")
    if not distribution.files:
        raise SettingError(
            f"the package {name}",
            expected="a list of its files",
            found="none",
            fix=f"pip install --force-reinstall {name}=={distribution.version}",
        )
    with zipfile.ZipFile(
        folder / f"{name}-{distribution.version}-py3-none-any.whl", "w", zipfile.ZIP_DEFLATED
    ) as wheel:
        for file in distribution.files:
            outside = ".." in file.parts or "__pycache__" in file.parts or file.suffix in (".so", ".pyd")
            if not outside:
                wheel.write(str(file.locate()), str(file))


def main() -> None:
    """Packs the kit."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="a new folder for the kit")
    kit: Path = parser.parse_args().out
    try:
        pack(kit)
    except FsaError as error:
        sys.exit(str(error))


def pack(kit: Path) -> None:
    """Packs the kit into a new folder.

    Raises:
      SettingError: the folder is there already, or the kit is too large.
    """
    if kit.exists():
        raise SettingError("--out", expected="a new folder", found=str(kit), fix=f"rm -r {kit}, or another --out")
    copy_code(kit)
    write_tokens(kit)
    (kit / "wheels").mkdir()
    for name in WHEELS:
        write_wheel(metadata.distribution(name), kit / "wheels")
    size = sum(file.stat().st_size for file in kit.rglob("*") if file.is_file())
    if size > LIMIT:
        raise SettingError("--out", expected=f"a kit of at most {LIMIT} bytes", found=f"{size} bytes", fix="pack less")
    print(f"{kit}: {size / 1e6:.1f} MB; run it there with  bash {kit}/run.sh --out RESULTS")


if __name__ == "__main__":
    main()
