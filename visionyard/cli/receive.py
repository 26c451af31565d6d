"""`visionyard receive`: alerts in, runs of the retraining pipeline out."""

import os
import signal
import threading
from pathlib import Path
from types import FrameType

from visionyard.cli.compile import make_package
from visionyard.cluster.alerts import Debouncer, load_receiver_config
from visionyard.cluster.kfp_api import KfpApi, find_server
from visionyard.cluster.profiles import load_profile
from visionyard.cluster.receiver import TOKEN_VARIABLE, Receiver, ReceiverServer, log
from visionyard.cluster.starter import KfpStarter
from visionyard.errors import ConfigError, VisionyardError


def receive_command(config_path: Path, *, address: str, port: int, host: str, namespace: str) -> None:
    """Receive alerts until SIGTERM or SIGINT.

    Args:
        config_path: The receiver's config.
        address: Where to listen.
        port: Which port; 0: any free one.
        host: Of Kubeflow Pipelines; empty: from the environment.
        namespace: Of a multi-user Kubeflow.

    Raises:
        ConfigError: The config is wrong, or its parameters do not fit the pipeline.
        VisionyardError: The state cannot be read, or the port is taken.
    """
    config = load_receiver_config(config_path)
    api = KfpApi(find_server(host, namespace))
    profile = load_profile(config.profile).with_store(config.store)
    package = make_package(config.pipeline, profile, {})
    problems = []
    for model, parameters in config.models.items():
        try:
            package.check(parameters)
        except ConfigError as error:
            problems += [f"models.{model}: {problem}" for problem in error.problems]
    if problems:
        raise ConfigError(problems)
    debouncer = Debouncer(config, KfpStarter(api, package, profile, config.experiment))
    token = os.environ.get(TOKEN_VARIABLE, "").strip()
    if not token:
        log("warning", "no token", advice=f"whoever reaches the port can start runs; set {TOKEN_VARIABLE}")
    receiver = Receiver(config, debouncer, token=token)
    try:
        server = ReceiverServer((address, port), receiver)
    except OSError as error:
        raise VisionyardError(f"{address}:{port}: cannot listen there: {error.strerror}; name another --port") from None

    def stop(_signum: int, _frame: FrameType | None) -> None:
        # shutdown() waits for the loop that this signal interrupted.
        threading.Thread(target=server.shutdown).start()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, stop)
    log("info", "listening", address=address, port=server.port, pipeline=config.pipeline, models=sorted(config.models))
    with server:
        server.serve_forever(poll_interval=0.2)
    log("info", "stopped")
