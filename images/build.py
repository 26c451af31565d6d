"""Build the container images with docker, podman or buildah; needs Python 3.11 and nothing else.

    make images
    make images IMAGES="data serve" ENGINE=podman PREFIX=registry.example/team/visionyard BUILD_FLAGS="--no-cache"
    make images IMAGES=train-cpu BUILD_FLAGS="--build-arg TORCH_INDEX=https://wheels.example/cpu"
    make images BASE=registry.example/python:3.11-slim

Each image is tagged with the package's version; ids, digests and sizes go to build/images.json, which a profile or a
chart can name images by.
"""

import json
import os
import shlex
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
RECORD = Path("build/images.json")
ENGINES = ("docker", "podman", "buildah")
# Where torch's CPU wheels come from is the user's word; without it only the others are built.
NEED_A_FLAG = ("train-cpu",)


def image_names() -> list[str]:
    """Return all images: the folders that have a Dockerfile, sorted."""
    return sorted(path.parent.name for path in (ROOT / "images").glob("*/Dockerfile"))


def choose_engine(asked: str) -> str:
    """Return the program that builds.

    Args:
        asked: By the user; empty takes the first that is there; docker whose daemon is silent comes last.

    Raises:
        SystemExit: It is not there.
    """
    found = [engine for engine in ([asked] if asked else ENGINES) if shutil.which(engine)]
    if found[:1] == ["docker"] and len(found) > 1:
        # The client comes alone with other tools, and builds nothing.
        answer = subprocess.run(["docker", "version"], capture_output=True, check=False)
        if answer.returncode:
            return found[1]
    if found:
        return found[0]
    raise SystemExit(f"images: {asked or ', '.join(ENGINES)}: not found; install one of {', '.join(ENGINES)}")


def version() -> str:
    """Return the package's version, which is the images' tag."""
    return str(tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"])


def revision() -> str:
    """Return the commit that is built, with `-dirty` when files differ from it; `unknown` outside a checkout."""
    if not shutil.which("git"):
        return "unknown"
    command = ["git", "-C", str(ROOT), "describe", "--always", "--abbrev=40", "--dirty", "--exclude=*"]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    return ended.stdout.strip() or "unknown"


def build(engine: str, name: str, tag: str, *, base: str, flags: list[str]) -> None:
    """Build one image.

    Args:
        engine: One of ENGINES.
        name: The image's folder.
        tag: Its full name.
        base: Of the base image; empty takes the Dockerfile's.
        flags: Passed to the engine as they are.

    Raises:
        SystemExit: With the engine's exit code.
    """
    values = {"VERSION": version(), "REVISION": revision(), **({"BASE": base} if base else {})}
    command = [engine, "build", "--file", f"images/{name}/Dockerfile", "--tag", tag]
    if engine == "buildah":
        command.append("--layers")  # which the others do by themselves: a change of code keeps the environment
    for key, value in values.items():
        command += ["--build-arg", f"{key}={value}"]
    ended = subprocess.run([*command, *flags, "."], cwd=ROOT, check=False)
    if ended.returncode:
        raise SystemExit(ended.returncode)


def size_bytes(text: str) -> int:
    """Return the bytes of a size as buildah writes it, such as `1.03 GB`, whose units are powers of 1000."""
    number, unit = text.split()
    return round(float(number) * 1000 ** ("B", "KB", "MB", "GB").index(unit.upper()))


def inspect(engine: str, tag: str) -> dict[str, str | int]:
    """Return what is recorded of an image: tag, id, digest (empty: docker has none before a push) and size."""
    if engine == "buildah":
        command = [engine, "images", "--no-trunc", "--json", tag]
        found = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)[0]
        return {"tag": tag, "id": found["id"], "digest": found["digest"], "size_bytes": size_bytes(found["size"])}
    shown = subprocess.run([engine, "image", "inspect", tag], capture_output=True, text=True, check=True)
    found = json.loads(shown.stdout)[0]
    digests = [entry.partition("@")[2] for entry in found.get("RepoDigests") or []]
    digest = found.get("Digest") or (digests[0] if digests else "")
    return {"tag": tag, "id": found["Id"], "digest": digest, "size_bytes": found["Size"]}


def main() -> None:
    """Build the images that the environment asks for, and record them."""
    names = os.environ.get("IMAGES", "").split() or [name for name in image_names() if name not in NEED_A_FLAG]
    unknown = sorted(set(names) - set(image_names()))
    if unknown:
        raise SystemExit(f"images: {', '.join(unknown)}: no such image; expected some of {', '.join(image_names())}")
    engine = choose_engine(os.environ.get("ENGINE", ""))
    prefix = os.environ.get("PREFIX", "") or os.environ.get("VISIONYARD_IMAGE_PREFIX", "") or "visionyard"
    path = ROOT / RECORD
    record = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    for name in names:
        tag = f"{prefix}/{name}-python:{version()}"
        build(engine, name, tag, base=os.environ.get("BASE", ""), flags=shlex.split(os.environ.get("BUILD_FLAGS", "")))
        record[name] = inspect(engine, tag)
        path.parent.mkdir(exist_ok=True)
        work = path.with_name(f".{path.name}.partial")
        work.write_text(json.dumps(record, indent=1, sort_keys=True) + "\n", encoding="utf-8")
        work.replace(path)
        sys.stdout.write(f"{tag}  {record[name]['digest'] or record[name]['id']}\n")


if __name__ == "__main__":
    main()
