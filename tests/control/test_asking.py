"""What the control socket answers."""

import os

import pytest

from supervisor import Supervisor

from ..inside import ControlError, sockets
from .asking import ask, beside


async def test_a_service_says_who_it_is_and_what_it_has():
    async with Supervisor("app", control=True) as sup:
        await sup.start(lambda ctx: ctx.stop.wait(), name="waiter")
        hello = await beside(ask, "hello")
        assert (hello["supervisor"], hello["pid"], hello["protocol"], hello["write"]) == ("app", os.getpid(), 1, False)
        survey = await beside(ask, "survey")
        assert [row["name"] for row in survey["workers"]] == ["waiter"]
        assert "ctx.stop.wait()" in (await beside(lambda: ask("stack", name="waiter")))["stack"]
        with pytest.raises(ControlError, match="nobody") as error:
            await beside(lambda: ask("stack", name="nobody"))
        assert error.value.code == "no_such_worker"
    assert sockets() == []
