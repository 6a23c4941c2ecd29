"""Make the hosts, cut one off and put it to sleep, kill PostgreSQL and the object store and bring them back.

python tests/hosts/smoke.py
"""

from __future__ import annotations

import sys

from topology import Database, ObjectStore, answers, topology

WRITE = "import s3fs; s3fs.S3FileSystem().pipe('team/probe', b'x'); print(s3fs.S3FileSystem().cat('team/probe'))"


def main() -> int:
    """Raise where a host or a server is not as it should be."""
    with topology() as hosts:
        worker = hosts.hosts["worker1"]
        assert worker.run("hostname").stdout == "worker1\n"
        database, objects = Database(hosts.hub), ObjectStore(hosts.hub)
        database.make()
        objects.make()
        assert worker.python("-c", WRITE).stdout == "b'x'\n"
        address = f"http://{hosts.hub.address}:8333/status"
        assert answers(address)  # the client is this process
        with hosts.hosts["client"].cut_off():
            assert not answers(address)
        assert answers(address)
        for fault in (worker.slow(), worker.lossy()):
            with fault:
                assert worker.python("-c", WRITE).stdout == "b'x'\n"
        database.kill()
        assert not database.is_ready()
        database.start()
        objects.kill()
        objects.start()
        assert worker.python("-c", WRITE).stdout == "b'x'\n"
    return 0


if __name__ == "__main__":
    sys.exit(main())
