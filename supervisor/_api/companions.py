"""What goes beside a supervisor from its first use on, where it was asked for; nothing of it is imported otherwise."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .binding import Binding

__all__ = ["begin_companions"]


def begin_companions(binding: Binding) -> None:
    """Begins them, once a supervisor is bound. On its loop's thread."""
    runtime, after = binding.runtime, binding.settings.stall_after
    if runtime is not None and after is not None:
        from .._runtime.stalls import begin  # noqa: PLC0415  # as below

        stalls = begin(runtime.settings.name, runtime.loop, runtime.log, runtime.publisher, after)
        runtime.stalls = stalls
        if stalls is not None and stalls.thread is not None:
            binding.companions.append(stalls.thread)
    control = binding.settings.control
    if control is not None:
        from .control import begin_control  # noqa: PLC0415  # only where it is asked for

        begin_control(binding, control)
    number = binding.settings.dump_signal
    if number is not None:
        from .dump import begin_dump  # noqa: PLC0415  # few ask for it

        begin_dump(binding, number)
