"""Draws docs/top.svg: the screen of `python -m supervisor top`, of a service that is started for it."""

import asyncio
import re
import time
from pathlib import Path
from tempfile import TemporaryDirectory

from supervisor import Ask, Control, EscalationPolicy, Inject, Restart, Supervisor
from supervisor._cli.live.app import Live

HERE = Path(__file__).parent


def poll_feed(ctx):
    ctx.stop.wait()


def export_rows(_ctx):
    while True:
        try:
            time.sleep(60)
        except BaseException:  # noqa: S110  # it does not want to end
            pass


async def main() -> None:
    with TemporaryDirectory() as folder:
        path = Path(folder, "ingest.sock")
        policy = EscalationPolicy(Ask(30), Inject(5))
        sup = Supervisor("ingest", control=Control(path), max_threads=4, policy=policy)
        feeds = sup.group("feeds")
        for name in ("prices", "orders"):
            await feeds.start(poll_feed, name=name, restart=Restart("failure"))
        export = await sup.start(export_rows, name="export")
        calls = [asyncio.ensure_future(sup.run(time.sleep, 3600, name=f"report-{n}")) for n in range(1, 7)]
        asyncio.ensure_future(export.stop("schema change"))  # noqa: RUF006
        app = Live(lambda: [path], interval=0.2)
        async with app.run_test(size=(110, 24)) as pilot:
            await asyncio.sleep(1.5)
            await pilot.press("down", "down")
            await asyncio.sleep(1.5)
            svg = app.export_screenshot(title="python -m supervisor top")
        svg = svg.replace(str(Path(__file__)), "/srv/ingest/main.py")
        # Without the fonts that it would have the reader's browser get from elsewhere.
        (HERE / "top.svg").write_text(re.sub(r"@font-face \{.*?\}\n", "", svg, flags=re.DOTALL))
        for call in calls:
            call.cancel()
        await sup.shutdown(1)


if __name__ == "__main__":
    asyncio.run(main())
