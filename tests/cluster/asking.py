"""Runs in a pod: asks a model server, until it is told to stop, and counts how that ended. Only the standard library.

usage: asking.py load HOST:PORT THREADS   a new connection for each request, until /tmp/stop is there
       asking.py slow HOST:PORT           half a request, and the rest when /tmp/go is there
"""

import base64
import collections
import http.client
import json
import os
import pathlib
import sys
import threading
import time

IMAGE = base64.b64decode(os.environ["IMAGE"])
PATIENCE_S = 20.0


def ask(address: str) -> str:
    """Send one image on a connection of its own and return how that ended."""
    connection = http.client.HTTPConnection(address, timeout=PATIENCE_S)
    try:
        connection.request("POST", "/predict", IMAGE, {"Content-Type": "image/png", "Connection": "close"})
        answer = connection.getresponse()
        answer.read()
        return str(answer.status)
    except (OSError, http.client.HTTPException) as error:
        return type(error).__name__
    finally:
        connection.close()


def load(address: str, thread_count: int) -> None:
    """Ask from several threads and print a line of counts every second, the last one when told to stop."""
    outcomes: collections.Counter[str] = collections.Counter()
    stop = pathlib.Path("/tmp/stop")

    def work() -> None:
        while not stop.exists():
            outcomes[ask(address)] += 1
            time.sleep(0.02)

    threads = [threading.Thread(target=work) for _ in range(thread_count)]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        time.sleep(1)
        print(json.dumps(outcomes), flush=True)


def slow(address: str) -> None:
    """Send half an image, then wait, then send the rest and print the answer's status."""
    connection = http.client.HTTPConnection(address, timeout=PATIENCE_S)
    connection.putrequest("POST", "/predict")
    connection.putheader("Content-Type", "image/png")
    connection.putheader("Content-Length", str(len(IMAGE)))
    connection.endheaders(IMAGE[:100])
    print("half", flush=True)
    end = time.monotonic() + PATIENCE_S
    while not pathlib.Path("/tmp/go").exists() and time.monotonic() < end:
        time.sleep(0.02)
    connection.send(IMAGE[100:])
    print(connection.getresponse().status, flush=True)


if __name__ == "__main__":
    if sys.argv[1] == "load":
        load(sys.argv[2], int(sys.argv[3]))
    else:
        slow(sys.argv[2])
