"""A cluster that talks by TLS, with real certificates: who has them, and who has not."""

import asyncio
import shutil
import subprocess
import time

import pytest

from supervisor import Supervisor, WorkerStopped, WorkerTimeout

from ..waiting import until
from . import functions as f
from .nodes import Nodes

pytestmark = pytest.mark.skipif(shutil.which("openssl") is None, reason="makes its certificates by openssl")

SECTION = "distributed.comm.tls"
CONFIGURED = "DASK_DISTRIBUTED__COMM__TLS__"


def certificate(folder, name):
    """Makes a certificate that has signed itself, with its key; returns the two files."""
    files = folder / f"{name}.pem", folder / f"{name}-key.pem"
    command = (
        "openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=127.0.0.1 -addext subjectAltName=IP:127.0.0.1"
    )
    subprocess.run([*command.split(), "-out", files[0], "-keyout", files[1]], check=True, capture_output=True)
    return tuple(map(str, files))


@pytest.fixture(scope="module")
def certificates(tmp_path_factory):
    pytest.importorskip("distributed")
    folder = tmp_path_factory.mktemp("certificates")
    return certificate(folder, "own"), certificate(folder, "other")


@pytest.fixture(scope="module")
def secured(certificates):
    """A cluster of one node, which takes and trusts one certificate alone."""
    (own, key), _ = certificates
    environment = {"DASK_DISTRIBUTED__COMM__DEFAULT_SCHEME": "tls", f"{CONFIGURED}CA_FILE": own}
    for role in ("SCHEDULER", "WORKER"):
        environment |= {f"{CONFIGURED}{role}__CERT": own, f"{CONFIGURED}{role}__KEY": key}
    with Nodes(environment) as nodes:
        nodes.add("only")
        nodes.wait()
        assert nodes.address.startswith("tls:")
        yield nodes


def security(certificates, own, trusted):
    from distributed.security import Security

    (cert, key), (authority, _) = certificates[own], certificates[trusted]
    return Security(tls_ca_file=authority, tls_client_cert=cert, tls_client_key=key, require_encryption=True)


async def test_who_gives_a_client_with_its_certificates_runs_calls_there(secured, certificates, kind):
    from distributed import Client

    async with Client(secured.address, security=security(certificates, 0, 0), asynchronous=True) as client:
        async with Supervisor(cluster=client) as sup:
            assert secured.name_of(await sup.run(f.pids, on="cluster", kind=kind)) == "only"


async def test_an_address_alone_does_where_the_certificates_are_configured(secured, certificates):
    import dask

    own, key = certificates[0]
    with dask.config.set(
        {f"{SECTION}.ca-file": own, f"{SECTION}.client.cert": own, f"{SECTION}.client.key": key},
    ):
        async with Supervisor(cluster=secured.address) as sup:
            assert await sup.run(f.pid, on="cluster") == secured.nodes["only"].pid


async def test_an_address_alone_is_refused_where_they_are_not(secured):
    async with Supervisor(cluster=secured.address) as sup:
        with pytest.raises(ValueError, match=r"needs certificates: give a Client\(..., security="):
            await sup.run(f.pid, on="cluster")
        with pytest.raises(ValueError, match="needs certificates"):
            await sup.start(f.tick, on="cluster")


async def test_certificates_that_cannot_be_read_are_named(secured):
    import dask

    with dask.config.set({f"{SECTION}.client.cert": "/nowhere/cert.pem", f"{SECTION}.ca-file": "/nowhere/ca.pem"}):
        async with Supervisor(cluster=secured.address) as sup:
            with pytest.raises(ValueError, match="its certificates cannot be used: FileNotFoundError"):
                await sup.run(f.pid, on="cluster")


class Given:
    """What has an address and certificates, as a client has them."""

    def __init__(self, address, security):
        self.scheduler_address = address
        self.security = security


@pytest.mark.parametrize(("own", "trusted"), [(1, 0), (0, 1)], ids=["which nobody trusts", "who trusts another"])
async def test_who_has_another_certificate_is_told_so_and_runs_nothing(secured, certificates, own, trusted):
    async with Supervisor(cluster=Given(secured.address, security(certificates, own, trusted))) as sup:
        call = asyncio.ensure_future(sup.run(f.pid, on="cluster"))
        await until(lambda: any("cannot be reached" in reason for reason in sup.health().reasons))
        began = time.monotonic()
        await sup.shutdown()
        assert time.monotonic() - began < 5
        await asyncio.wait([call])
        assert call.cancelled() or isinstance(call.exception(), WorkerStopped)


async def test_who_comes_without_encryption_runs_nothing(secured):
    async with Supervisor(cluster=secured.address.replace("tls:", "tcp:")) as sup:
        with pytest.raises(WorkerTimeout):
            await sup.run(f.pid, on="cluster", timeout=0.5)
        assert not sup.health().ready
