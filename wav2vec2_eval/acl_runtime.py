# SPDX-License-Identifier: Apache-2.0
"""pyACL with every return code checked and every resource owned. The only module that imports `acl`.

The rules are those of the pyACL API reference (hiascend.com, "appdevgapi"): a call returns a code, a value and a code,
or a handle that is 0 on failure; resources are released in the reverse order of their creation, and on failure too.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from .cli import signals_deferred
from .errors import SuiteError

# aclError codes that a user of this suite can meet, and what they mean (CANN, "aclError" table). "Probably" marks those
# whose cause no document states.
MEANINGS = {
    100000: "invalid parameter",
    100001: "acl is not initialised",
    100003: "invalid file",
    107000: "invalid runtime parameter",
    107001: "no such device id",
    107002: "the thread has no context",
    107003: "the stream belongs to another context",
    107006: "an event was not waited for",
    145000: "number or size of the model's buffers do not fit",
    145001: "the model executor is not initialised",
    145002: "the model path is not valid",
    145003: "no such model id",
    145006: "size of the model's data; the file is probably cut or damaged",
    145007: "address of the model's data",
    145009: "the model is loaded already",
    145012: "the dynamic dims have the wrong form",
    145013: "the dynamic dims are no gear of the model",
    200000: "host memory could not be allocated",
    200001: "not supported by this version of CANN",
    207000: "not supported by this device",
    207001: "device memory could not be allocated",
    207004: "no such device",
    207005: "the device has no resource left",
    207007: "the device has no event left",
    207008: "the device has no stream left",
    207010: "the device has no room for another model",
    207018: "the device is out of memory",
    245000: "memory error of the graph engine",
    245001: "memory error of the graph engine",
    245002: "memory error of the graph engine",
    300000: "over a limit",
    500000: "internal error",
    500001: "internal failure",
    500002: "graph engine failure, or a model executed both sync and async",
    500003: "runtime failure",
    500004: "driver failure",
    507000: "runtime internal error; at loading, the model was probably compiled for another SoC",
    507008: "SoC version; the model was probably compiled for another SoC",
    507010: "the device lost its heartbeat",
    507011: "the model failed to execute",
    507014: "AI core timeout",
    507015: "AI core exception",
    507016: "AI core trap",
    507017: "AI CPU timeout",
    507018: "AI CPU exception",
    507033: "the device could not be opened (driver, or device not mounted into the container)",
    507053: "device memory error",
    507899: "driver error",
    507900: "AI CPU internal error",
    507901: "connection to the device lost",
    545000: "internal error of the graph engine",
    545001: "the graph engine could not load the model",
    545009: "the graph engine could not unload the model",
    545601: "the graph engine's execution timed out",
}
REPEATED_INIT = 100002  # somebody in this process called acl.init before: harmless, it only counts one more user


class AclError(SuiteError):
    """A pyACL call failed. The message names the call, the code, its meaning and what CANN says of it."""


class _Release(NamedTuple):
    function: str
    arguments: tuple[Any, ...]


class Acl:
    """Calls pyACL, and owns what is created through `own` until `release_all`.

    Functions go by their documented names, for example "acl.rt.malloc".
    """

    def __init__(self) -> None:
        try:
            import acl
        except ImportError as error:
            raise SuiteError(
                f"the Python module acl cannot be imported ({error}); .om models need an Ascend host with CANN: "
                f"source its set_env.sh first"
            ) from None
        self._modules = {"acl": acl, "acl.rt": acl.rt, "acl.mdl": acl.mdl}
        self._functions: dict[str, Any] = {}
        self._owned: list[_Release] = []

    def get(self, function: str, *arguments: Any) -> Any:
        """Call a function that has no return code."""
        return self._function(function)(*arguments)

    def call(self, function: str, *arguments: Any) -> Any:
        """Call a function that returns a code, or a value and a code; returns the value. Raises AclError."""
        result = self._function(function)(*arguments)
        value, code = result if isinstance(result, tuple) else (None, result)
        if code:
            raise self._error(function, code)
        return value

    def create(self, function: str, *arguments: Any) -> int:
        """Call a function that returns a handle and no code. Raises AclError if the handle is 0."""
        handle = self._function(function)(*arguments)
        if not handle:
            raise self._error(function, None)
        return handle

    def own(self, create: str, *arguments: Any, release: str) -> Any:
        """Create a resource that `release_all` will release by `release(resource)`."""
        has_code = create not in ("acl.mdl.create_desc", "acl.mdl.create_dataset", "acl.create_data_buffer")
        with signals_deferred():  # an interruption between the two steps would leave the resource without an owner
            resource = (self.call if has_code else self.create)(create, *arguments)
            self._owned.append(_Release(release, (resource,)))
        return resource

    def open_device(self, device_id: int) -> None:
        """Initialise pyACL and open a device, with a context of its own that is current in this thread."""
        with signals_deferred():
            code = self._function("acl.init")()
            if code not in (0, REPEATED_INIT):
                raise self._error("acl.init", code)
            if code == 0:
                self._owned.append(_Release("acl.finalize", ()))
            elif hasattr(self._modules["acl"], "finalize_reference"):  # newer versions of CANN count the users
                self._owned.append(_Release("acl.finalize_reference", ()))
            self.call("acl.rt.set_device", device_id)
            self._owned.append(_Release("acl.rt.reset_device", (device_id,)))
        self.own("acl.rt.create_context", device_id, release="acl.rt.destroy_context")

    def before_release(self, function: str, *arguments: Any) -> None:
        """Have `function` called before everything that is owned now is released."""
        self._owned.append(_Release(function, arguments))

    def release_all(self) -> list[BaseException]:
        """Release everything that is owned, the latest first, whatever fails; returns the failures."""
        failures = []
        with signals_deferred():
            while self._owned:
                release = self._owned.pop()
                try:
                    self.call(release.function, *release.arguments)
                except BaseException as error:  # whatever it is, the rest is released, too
                    failures.append(error)
        return failures

    def _function(self, name: str) -> Any:
        if name not in self._functions:
            module, _, function = name.rpartition(".")
            self._functions[name] = getattr(self._modules[module], function)
        return self._functions[name]

    def _error(self, function: str, code: int | None) -> AclError:
        said = "gave no handle" if code is None else f"failed with code {code}"
        meaning = f" ({MEANINGS[code]})" if code in MEANINGS else ""
        report = self._function("acl.get_recent_err_msg")()  # reads and clears, so only here
        return AclError(f"{function} {said}{meaning}{f': {report}' if report else ''}; see the README's Ascend chapter")
