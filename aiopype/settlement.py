"""What becomes of events whose handler failed: tried again, made dead letters, or parked."""

from __future__ import annotations
