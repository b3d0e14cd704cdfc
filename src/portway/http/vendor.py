"""uvicorn's HTTP protocol without the rest of uvicorn.

`import uvicorn` brings its command line and configuration, which nothing here uses and which cost as much time as
asyncio and uvloop together. `httptools_impl` needs two names of them, for annotations only, so bare modules stand in
for them while it is imported. They are taken away again: a later import of uvicorn gets the real one.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
from types import ModuleType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from uvicorn._types import ASGI3Application
    from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle
else:
    HttpToolsProtocol = RequestResponseCycle = ASGI3Application = None

__all__ = ["ASGI3Application", "HttpToolsProtocol", "RequestResponseCycle"]

_MODULE = "uvicorn.protocols.http.httptools_impl"


def _load() -> ModuleType:
    before = {name for name in sys.modules if name.partition(".")[0] == "uvicorn"}
    spec = importlib.util.find_spec("uvicorn") if not before else None
    if spec is None or spec.submodule_search_locations is None:
        return importlib.import_module(_MODULE)
    package, config, server = ModuleType("uvicorn"), ModuleType("uvicorn.config"), ModuleType("uvicorn.server")
    package.__path__ = list(spec.submodule_search_locations)
    config.Config = server.ServerState = object  # type: ignore[attr-defined]
    sys.modules.update({module.__name__: module for module in (package, config, server)})
    try:
        return importlib.import_module(_MODULE)
    except (ImportError, AttributeError):  # another uvicorn, which needs more of itself
        _forget()
        return importlib.import_module(_MODULE)
    finally:
        if sys.modules.get("uvicorn") is package:
            _forget()


def _forget() -> None:
    for name in [name for name in sys.modules if name.partition(".")[0] == "uvicorn"]:
        del sys.modules[name]


if not TYPE_CHECKING:
    _module = _load()
    HttpToolsProtocol, RequestResponseCycle = _module.HttpToolsProtocol, _module.RequestResponseCycle
