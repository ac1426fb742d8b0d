"""A wait that outlasts its cancellation."""

import asyncio

from ..inside import outlast


async def test_outlast_returns_none_where_nobody_cancelled():
    future = asyncio.get_running_loop().create_future()
    asyncio.get_running_loop().call_later(0.01, future.set_result, None)
    assert await outlast(future) is None
