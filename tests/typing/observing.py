"""Type-checked, never run: what else is told of a supervisor."""

from typing import assert_type

from opentelemetry.trace import TracerProvider

from supervisor import Supervisor
from supervisor.otel import Instrumentation, instrument
from supervisor.systemd import Notifier, notify


async def spans(sup: Supervisor, provider: TracerProvider) -> None:
    assert_type(instrument(sup), Instrumentation)
    assert_type(instrument(sup, tracer_provider=provider).undo(), None)


async def systemd(sup: Supervisor) -> None:
    service = notify(sup)
    assert_type(service, Notifier)
    assert_type(service.active, bool)
    service.ready("listening")
    service.status("3 feeds")
