"""Does something the moment a module is imported, as to import it earlier would cost each start."""

from __future__ import annotations

import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from importlib.machinery import ModuleSpec
    from types import ModuleType
    from typing import Any, Callable, Optional


def when_imported(name: str, function: Callable[[Any], None]) -> None:
    """Call `function` with a module: now, if it is imported already, else when it is."""
    module = sys.modules.get(name)
    if module:
        function(module)
    else:
        sys.meta_path.insert(0, _Import(name, function))


class _Import:
    """Waits in sys.meta_path until a module is imported; once."""

    def __init__(self, name: str, function: Callable[[Any], None]) -> None:
        """Remember what to do."""
        self._name = name
        self._function = function
        self._loader: Any = None

    def find_spec(self, name: str, path: object = None, target: object = None) -> Optional[ModuleSpec]:
        """Find the module as Python would, and put ourselves in the place of its loader."""
        if name != self._name:
            return None
        sys.meta_path.remove(self)
        for finder in sys.meta_path:
            spec = finder.find_spec(name, path, None)  # type: ignore[arg-type]  # as importlib gives it
            if spec is not None:
                self._loader, spec.loader = spec.loader, self  # type: ignore[assignment]  # a loader by its shape
                return spec
        return None

    def create_module(self, spec: ModuleSpec) -> Optional[ModuleType]:
        """Leave it to the real loader."""
        return self._loader.create_module(spec)  # type: ignore[no-any-return]

    def exec_module(self, module: ModuleType) -> None:
        """Execute the module, then do what is to be done."""
        module.__loader__ = self._loader
        if module.__spec__:
            module.__spec__.loader = self._loader
        self._loader.exec_module(module)
        self._function(module)
