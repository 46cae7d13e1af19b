"""How the program logs: one line an event of life, text or JSON, to standard error.

Here is what a line looks like and which ones are summed up. What is logged, and where else it goes
(`reporting`, `progress.RecentErrors`), is not here.

What a record is about is said where it is logged:

    logger.warning("... %s", error, extra=about(component="prices.source"))
"""

from aiopype.logs.about import about
from aiopype.logs.forms import JsonForm, TextForm
from aiopype.logs.lines import Lines, are_for_programs, are_summed_up
from aiopype.logs.setting_up import FORMATS, LEVELS, set_up

__all__ = [
    "FORMATS",
    "LEVELS",
    "JsonForm",
    "Lines",
    "TextForm",
    "about",
    "are_for_programs",
    "are_summed_up",
    "set_up",
]
