"""Finds the flow that a command line names: a file, or `module:attribute`."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from pathlib import Path
from types import ModuleType

from aiopype.errors import TargetError
from aiopype.flow import Flow

__all__ = ["load_flow"]


def load_flow(target: str) -> Flow:
    """Import `target` and return its flow.

    Arguments:
        target: a path to a Python file that makes one flow, or `module:attribute`, looked up in
            the current folder first. What the file has under `if __name__ == "__main__"` is not
            run.

    Raises:
        TargetError: no such file, module or attribute, or not exactly one flow.
    """
    path = Path(target)
    if target.endswith(".py") or path.is_file():
        return _only_flow(_import_file(path), target)
    name, _, attribute = target.partition(":")
    if not all(part.isidentifier() for part in name.split(".")):
        raise TargetError(f"target {target!r}: give the path of a file, or module:attribute")
    module = _import_module(name, target)
    if not attribute:
        return _only_flow(module, target)
    flow = getattr(module, attribute, None)
    if not isinstance(flow, Flow):
        raise TargetError(f"{target}: {attribute!r} of {name} is {flow!r}, not a flow")
    return flow


def _import_file(path: Path) -> ModuleType:
    if not path.is_file():
        raise TargetError(f"there is no file {str(path)!r}")
    path = path.resolve()
    # A file may be called as a module that is in use, which stays what it is.
    name = path.stem if path.stem not in sys.modules else f"__{path.stem}__"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise TargetError(f"{str(path)!r} is not a Python file")
    # As `python FILE` does: what lies beside the file can be imported.
    sys.path.insert(0, str(path.parent))
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module


def _import_module(name: str, target: str) -> ModuleType:
    # The scripts of an environment do not have the current folder on their path.
    sys.path.insert(0, str(Path.cwd()))
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is None or not (name == error.name or name.startswith(f"{error.name}.")):
            raise
        raise TargetError(
            f"{target}: there is no module {error.name!r} here; "
            "give the path of a file, or module:attribute"
        ) from error


def _only_flow(module: ModuleType, target: str) -> Flow:
    flows = {id(f): name for name, f in vars(module).items() if isinstance(f, Flow)}
    if not flows:
        raise TargetError(f"{target} makes no flow; it needs `dataflow = AsyncFlow(config)`")
    if len(flows) > 1:
        raise TargetError(f"{target} makes several flows, name one: {sorted(flows.values())}")
    flow: Flow = getattr(module, next(iter(flows.values())))
    return flow
