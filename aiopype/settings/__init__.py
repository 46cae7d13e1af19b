"""What a flow is configured with, and where each setting comes from.

Here belongs what finds a setting, reads it and tells of it; the settings themselves are one table,
the fields of `Settings`. What a setting does is not here. Nor are topics, though their files are
found and read with `files`.
"""

from aiopype.settings.lookup import Found, Setting
from aiopype.settings.table import Settings

__all__ = ["Found", "Setting", "Settings"]
