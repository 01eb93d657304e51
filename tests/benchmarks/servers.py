"""Rivals that need a server: Ray, Redis, ipyparallel. All their traffic stays on this machine."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from .measure import Unavailable
from .rivals import Rival

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

Array = np.ndarray[Any, Any]
_START = 60.0


class ServerRival(Rival, Protocol):
    """A rival that was started, and is to be ended."""

    def end(self) -> None:
        """Stop the server."""


class Ray:
    """Ray's object store: a reference, which other workers of the cluster get."""

    label = "Ray"

    def __init__(self, place: str, nbytes: int) -> None:
        os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
        import ray

        self._ray = ray
        self._reference: Any = None
        ray.init(
            address="local",  # never one that runs already
            num_cpus=1,
            object_store_memory=3 * nbytes + (100 << 20),
            include_dashboard=False,
            log_to_driver=False,
            _node_ip_address="127.0.0.1",
            _temp_dir=place,
        )

    def write(self, array: Array) -> None:
        self._reference = None
        self._reference = self._ray.put(array)

    def read(self) -> object:
        return self._ray.get(self._reference)

    def drop(self, got: object) -> None:
        pass

    def remove(self) -> None:
        self._reference = None

    def end(self) -> None:
        self._ray.shutdown()


class Redis:
    """Redis: the bytes of the array, through a Unix socket."""

    label = "Redis"

    def __init__(self, place: str, nbytes: int) -> None:
        import redis

        program = shutil.which("redis-server")
        if program is None:
            raise Unavailable("there is no redis-server")
        socket = os.path.join(place, "socket")
        most = str(2 * nbytes + (1 << 20))
        settings = {
            "port": "0",
            "unixsocket": socket,
            "dir": place,
            "save": "",
            "appendonly": "no",
            "proto-max-bulk-len": most,
            "client-query-buffer-limit": most,
        }
        command = [program]
        for name, value in settings.items():
            command += [f"--{name}", value]
        self._server = subprocess.Popen(command)
        end = time.monotonic() + _START
        while not os.path.exists(socket):
            if self._server.poll() is not None or time.monotonic() > end:
                self.end()
                raise Unavailable("redis-server does not start")
            time.sleep(0.05)
        self._redis = redis.Redis(unix_socket_path=socket)

    def write(self, array: Array) -> None:
        self._redis.set("frame", array.data.cast("B"))

    def read(self) -> object:
        return np.frombuffer(self._redis.get("frame"))

    def drop(self, got: object) -> None:
        pass

    def remove(self) -> None:
        self._redis.delete("frame")

    def end(self) -> None:
        self._server.terminate()
        self._server.wait()


class Parallel:
    """ipyparallel: one client pushes the array into an engine, another pulls it from there."""

    label = "ipyparallel"

    def __init__(self, place: str, nbytes: int) -> None:
        del nbytes  # it takes any
        os.environ["IPYTHONDIR"] = place
        import ipyparallel

        self._cluster = ipyparallel.Cluster(
            n=1,
            profile_dir=os.path.join(place, "profile"),
            controller_ip="127.0.0.1",
            engine_timeout=_START,
        )
        self._client = self._cluster.start_and_connect_sync(activate=False)

    def write(self, array: Array) -> None:
        self._client[0].push({"frame": array}, block=True)

    def read(self) -> object:
        return self._client[0].pull("frame", block=True)

    def drop(self, got: object) -> None:
        pass

    def remove(self) -> None:
        self._client[0].push({"frame": None}, block=True)
        self._client.purge_everything()

    def end(self) -> None:
        self._client.close()
        self._cluster.stop_cluster_sync()


SERVERS: Mapping[str, Callable[[str, int], ServerRival]] = {
    one.label: one for one in (Ray, Redis, Parallel)
}
