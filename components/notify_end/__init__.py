"""The stage notify_end."""

from .component import notify_end

__all__ = ["notify_end"]
