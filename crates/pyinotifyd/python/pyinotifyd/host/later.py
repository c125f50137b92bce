"""Loads what asyncio imports and hardly anybody uses later: 4 MB of memory and 15 ms of each start.

Owns the modules until something is looked up in them; from then on they are what they always were. Users see no
difference: ``import ssl`` and ``from ssl import ...`` work as ever, the work is only done later.
"""

from __future__ import annotations

import sys
from _thread import RLock

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from importlib.machinery import ModuleSpec
    from types import ModuleType
    from typing import Any, Optional

if not TYPE_CHECKING:
    # As types.ModuleType, which costs an import.
    ModuleType = type(sys)

# Name to a module that it can't be loaded without: a Python that was built without TLS has ssl, which then says so by an
# ImportError; at once.
_NEEDS: dict[str, Optional[str]] = {"ssl": "_ssl", "asyncio.sslproto": "_ssl", "inspect": None, "locale": None}

# What importlib looks up in a new module, to see whether it has to be set, and what it sets.
_OF_IMPORTLIB = ("__path__", "__file__", "__cached__", "__loader__", "__package__", "__spec__")

# One for all, as the one imports the other.
_lock = RLock()


def install() -> None:
    """Load the modules later, unless they are loaded already."""
    sys.meta_path.insert(0, _Finder())


class _Finder:
    """Finds the modules as Python would, and puts ourselves in the place of their loaders."""

    def find_spec(self, name: str, path: Any = None, target: object = None) -> Optional[ModuleSpec]:
        """Find a module; importlib's protocol."""
        if name not in _NEEDS:
            return None
        needed = _NEEDS[name]
        if needed and self._find(needed, None) is None:
            return None
        spec = self._find(name, path)
        if spec is not None and spec.loader is not None:
            spec.loader = _Loader(spec.loader)  # type: ignore[assignment]  # a loader by its shape
        return spec

    def _find(self, name: str, path: Any) -> Optional[ModuleSpec]:
        """Find a module without us."""
        for finder in sys.meta_path:
            spec = None if finder is self else finder.find_spec(name, path, None)
            if spec is not None:
                return spec
        return None


class _Loader:
    """Makes a module that is loaded when something is looked up in it."""

    def __init__(self, loader: Any) -> None:
        """Remember who does the work."""
        self._loader = loader

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        """Return an empty module."""
        return _Later(spec.name)

    def exec_module(self, module: ModuleType) -> None:
        """Do nothing yet."""
        module.__loader__ = self._loader
        assert module.__spec__ is not None
        module.__spec__.loader = self._loader

    def __getattr__(self, name: str) -> Any:
        """Be the real loader in all else."""
        return getattr(self._loader, name)


class _Later(ModuleType):
    """A module before it is loaded. Attributes that importlib sets are found without us."""

    def __getattr__(self, name: str) -> Any:
        """Load the module, then look the name up in it."""
        self._load_for(name)
        return ModuleType.__getattribute__(self, name)

    def __setattr__(self, name: str, value: object) -> None:
        """Load the module, which would overwrite the value later, then set it."""
        self._load_for(name)
        ModuleType.__setattr__(self, name, value)

    def __dir__(self) -> Iterable[str]:
        """Load the module, then list it."""
        self._load_for("")
        return ModuleType.__dir__(self)

    def _load_for(self, name: str) -> None:
        """Load the module, unless it is importlib that asks, or the module itself while it is loaded."""
        with _lock:
            if name in _OF_IMPORTLIB or type(self) is not _Later or self.__dict__.get("_loading"):
                return
            self.__dict__["_loading"] = True
            try:
                self.__loader__.exec_module(self)  # type: ignore[union-attr]  # set by _Loader
                object.__setattr__(self, "__class__", ModuleType)
            finally:
                del self.__dict__["_loading"]
