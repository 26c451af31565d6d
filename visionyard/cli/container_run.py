"""Run every task of a pipeline in a container: KFP's runner over the socket of Docker or podman.

A container sees what a subprocess would see, at the same paths: the folder of all runs (artifacts, events, checkpoints,
the tracking file), the data, the weights and the network of this machine. Its root file system is read-only, it has no
capabilities, and it runs as the caller, so that what it writes is the caller's.
"""

import codecs
import os
import signal
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

from visionyard.errors import ConfigError, VisionyardError

HOST_VARIABLE = "DOCKER_HOST"
RUN_LABEL = "visionyard.run"
# A stage that is told to stop writes its exit report; what is still there then is killed.
STOP_GRACE_S = 10.0
# Loader processes hand batches over in shared memory, of which a container has 64 MiB unless it is given more.
SHARED_MEMORY_BYTES = 2 << 30
_EXIT_STOPPED = 128 + signal.SIGTERM
_SOCKETS = ("/var/run/docker.sock", "{runtime}/docker.sock", "{runtime}/podman/podman.sock", "/run/podman/podman.sock")
_PASSED_PREFIXES = ("AWS_", "MLFLOW_", "VISIONYARD_")
_PASSED = {
    *("OMP_NUM_THREADS", "GOMP_SPINCOUNT", "PYTHONUNBUFFERED", "SSL_CERT_FILE"),
    *("HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "no_proxy"),
}
# All but the shell, which is process 1 and waits for the stage, as a signal to the group of a subprocess does.
_STOP_COMMAND = ["sh", "-c", "kill -TERM -1"]


def find_host(environment: Mapping[str, str] = os.environ) -> str:
    """Return the address of the container engine: DOCKER_HOST, or the first socket of Docker or podman.

    Raises:
        ConfigError: There is none.
    """
    if host := environment.get(HOST_VARIABLE, ""):
        return host
    runtime = environment.get("XDG_RUNTIME_DIR") or f"/run/user/{os.getuid()}"
    sockets = [Path(place.format(runtime=runtime)) for place in _SOCKETS]
    for socket in sockets:
        if socket.is_socket():
            return f"unix://{socket}"
    raise ConfigError(
        f"--runner containers: no socket of Docker or podman (looked at {', '.join(map(str, sockets))}); start "
        f"Docker or podman's socket, or name another by {HOST_VARIABLE}=unix:///path/of.sock"
    )


@contextmanager
def connected(host: str) -> Iterator[Any]:
    """Yield a client of the container engine.

    Args:
        host: From `find_host`.

    Raises:
        ConfigError: The package `docker` is missing, or nothing answers there.
    """
    try:
        import docker
    except ImportError:
        raise ConfigError("--runner containers needs the Python package docker: pip install docker") from None
    try:
        # The client leaves its own socket open when there is none to connect to.
        if host.startswith("unix://") and not Path(host.removeprefix("unix://")).is_socket():
            raise FileNotFoundError("no such socket")
        client = docker.DockerClient(base_url=host)
        client.ping()
    except (docker.errors.DockerException, OSError) as error:
        raise ConfigError(
            f"--runner containers: no container engine answers at {host} ({error}); start it, or set {HOST_VARIABLE}"
        ) from None
    try:
        yield client
    finally:
        client.close()


def image_ids(host: str, names: Iterable[str]) -> dict[str, str]:
    """Return the id of each image, by name.

    Args:
        host: From `find_host`.
        names: As the compiled pipeline has them.

    Raises:
        ConfigError: Some are not on this machine; all of them are named.
    """
    import docker

    found, problems = {}, []
    with connected(host) as client:
        for name in sorted(set(names)):
            try:
                found[name] = client.images.get(name).id
            except docker.errors.ImageNotFound:
                problems.append(f"{name}: no such image at {host}; {_way_to_have(name)}, or pull it")
    if problems:
        raise ConfigError(problems)
    return found


def _way_to_have(name: str) -> str:
    """Return how an image is had, in words; `make images` by itself leaves out the one of CPU wheels."""
    if "/train-cpu-python:" not in name:
        return "build it with `make images`"
    other = name.replace("/train-cpu-python:", "/train-python:")
    return f"build it as docs/images.md says, take the larger one for it with `docker tag {other} {name}`"


def images_of(package: Path) -> list[str]:
    """Return the names of the images in a compiled pipeline, sorted."""
    import yaml

    specification = next(yaml.safe_load_all(package.read_text(encoding="utf-8")))
    executors = specification["deploymentSpec"]["executors"].values()
    return sorted({executor["container"]["image"] for executor in executors if "container" in executor})


def check_images(pipeline: str) -> dict[str, str]:
    """Return the ids of the images that a pipeline needs here, before anything is started.

    Raises:
        ConfigError: No container engine answers, or images are missing.
    """
    from tempfile import TemporaryDirectory

    from visionyard.cli.compile import compile_pipeline

    host = find_host()
    with connected(host):  # compiling takes seconds; a missing engine is told at once
        pass
    with TemporaryDirectory() as folder:
        package = Path(folder) / "pipeline.yaml"
        compile_pipeline(pipeline, package)
        return image_ids(host, images_of(package))


def container_arguments(
    folder: Path, *, readable: Iterable[str], environment: Mapping[str, str], is_rootless: bool
) -> dict[str, Any]:
    """Return how each container of a run is started, in the words of docker's `containers.create`.

    Args:
        folder: Of the run; the folder above it, which holds all runs, can be written.
        readable: Paths of data and weights; what does not exist here, such as an s3:// address or a name, is left out.
        environment: Of the runner; what stages read of it is passed on.
        is_rootless: The engine runs as the caller, who then is root inside.
    """
    from docker.types import Mount

    passed = {name: value for name, value in environment.items() if _is_passed(name)}
    writable = {folder.parent.absolute()} | _tracking_folder(passed.get("MLFLOW_TRACKING_URI", ""))
    sources = {
        Path(path).absolute()
        for path in [*readable, passed.get("SSL_CERT_FILE", "")]
        if path and "://" not in path and Path(path).exists()
    }
    mounts = [Mount(str(path), str(path), type="bind") for path in sorted(writable)]
    mounts += [Mount(str(path), str(path), type="bind", read_only=True) for path in sorted(sources - writable)]
    return {
        "environment": passed,
        "mounts": mounts,
        # Rootless engines map root inside to the caller outside.
        "user": "0:0" if is_rootless else f"{os.getuid()}:{os.getgid()}",
        "working_dir": str(Path.cwd()),
        "labels": {RUN_LABEL: str(folder.absolute())},
        "read_only": True,
        "tmpfs": {"/tmp": "mode=1777"},  # noqa: S108 - inside, where it is the only other place that can be written
        "shm_size": SHARED_MEMORY_BYTES,
        "cap_drop": ["ALL"],
        "security_opt": ["no-new-privileges"],
        # A store or a tracking server on this machine's loopback is reached as by a subprocess.
        "network_mode": "host",
    }


def _is_passed(name: str) -> bool:
    return name in _PASSED or name.startswith(_PASSED_PREFIXES)


def _tracking_folder(uri: str) -> set[Path]:
    """SQLite writes its journal beside the file."""
    prefix = "sqlite:///"
    return {Path(uri.removeprefix(prefix)).absolute().parent} if uri.startswith(prefix) else set()


def make_runner(folder: Path, *, readable: Iterable[str]) -> Any:
    """Return KFP's runner for a run, settled so that a failure, a signal and foreign bytes in a log end as they should.

    Args:
        folder: Of the run.
        readable: Paths of data and weights that its stages read.

    Raises:
        ConfigError: No container engine answers.
    """
    from kfp import local
    from kfp.local import docker_task_handler

    host = os.environ[HOST_VARIABLE] = find_host()  # KFP asks the environment
    with connected(host) as client:
        options = client.info().get("SecurityOptions") or []
    # KFP 2.17's own function takes a container that is gone before it was asked for as a success, pulls images that are
    # not listed by the very name, and dies of a log that is no UTF-8.
    docker_task_handler.run_docker_container = run_container
    arguments = container_arguments(
        folder, readable=readable, environment=os.environ, is_rootless="name=rootless" in options
    )
    _stop_when_told(folder, host)
    return local.DockerRunner(**arguments)


def run_container(client: Any, image: str, command: list[str], volumes: dict[str, Any], **arguments: Any) -> int:
    """Run a container to its end, print its log, remove it, and return its exit code.

    Args:
        client: Of the container engine.
        image: Its name; it has to be there.
        command: What to run in it.
        volumes: As KFP mounts them.
        arguments: From `container_arguments`.
    """
    container = client.containers.create(image=image, command=command, volumes=volumes, **arguments)
    try:
        container.start()
        for line in _lines(container.logs(stream=True, follow=True)):
            print(line)
        code: int = container.wait()["StatusCode"]
        return code
    finally:
        _remove(container)


def _lines(parts: Iterable[bytes]) -> Iterator[str]:
    """Yield whole lines: KFP indents whatever is printed at once, and the engine cuts a log anywhere."""
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    begun = ""
    for part in parts:
        *lines, begun = (begun + decoder.decode(part)).split("\n")
        yield from lines
    if begun:
        yield begun


def remove_containers(folder: Path) -> None:
    """Kill what is left of a run's containers, such as those whose runner was killed hard.

    Raises:
        VisionyardError: The container engine refused.
    """
    import docker

    with connected(find_host()) as client:
        for container in _containers_of(client, folder):
            try:
                _remove(container)
            except docker.errors.APIError as error:
                raise VisionyardError(
                    f"{container.name}: this container of the run {folder} could not be removed: {error}"
                ) from None


def _remove(container: Any) -> None:
    import docker

    with suppress(docker.errors.NotFound):
        container.remove(force=True, v=True)


def _containers_of(client: Any, folder: Path) -> list[Any]:
    found: list[Any] = client.containers.list(
        all=True, filters={"label": f"{RUN_LABEL}={folder.absolute()}"}, ignore_removed=True
    )
    return found


def _stop_when_told(folder: Path, host: str) -> None:
    """On a signal let the run's containers end, then end too: they are no children, the group's signal misses them."""

    def stop(_signum: int, _frame: FrameType | None) -> NoReturn:
        import docker

        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_IGN)
        with connected(host) as client:
            for container in _containers_of(client, folder):
                with suppress(docker.errors.APIError):  # it ended meanwhile
                    container.exec_run(_STOP_COMMAND)
                with suppress(docker.errors.APIError, OSError):  # it is gone, or does not listen
                    container.wait(timeout=STOP_GRACE_S)
                with suppress(docker.errors.APIError):
                    _remove(container)
        os._exit(_EXIT_STOPPED)

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, stop)
