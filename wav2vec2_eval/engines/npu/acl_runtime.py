# SPDX-License-Identifier: Apache-2.0
"""pyACL with every return code checked and every resource owned. The only module that imports `acl`.

A call returns a code, or a value and a code, or a handle that is 0 on failure. Resources are released in the reverse
order of their creation, on failure too. The pyACL reference:
https://www.hiascend.com/document/detail/en/canncommercial/850/API/appdevgapi/
"""

from __future__ import annotations

from typing import Any, NamedTuple

from ...errors import SuiteError
from ...machine.signals import signals_deferred
from .acl_codes import MEANINGS, REPEATED_INIT


class AclError(SuiteError):
    """A pyACL call failed. The message has the call, the code, its meaning and CANN's own message.

    `code` is None if the call gave no handle; `report` is CANN's own message, perhaps empty.
    """

    def __init__(self, message: str, code: int | None, report: str) -> None:
        super().__init__(message)
        self.code = code
        self.report = report


class _Release(NamedTuple):
    function: str
    arguments: tuple[Any, ...]


class Acl:
    """Calls pyACL functions by their documented names, such as "acl.rt.malloc".

    It owns the resources that `own` creates until `release_all` releases them.
    """

    def __init__(self) -> None:
        try:
            import acl
        except ImportError as error:
            raise SuiteError(
                f"the Python module acl cannot be imported ({error}); .om models need an Ascend host with CANN: "
                f"source its set_env.sh first"
            ) from None
        self._modules: dict[str, Any] = {"acl": acl, "acl.rt": acl.rt, "acl.mdl": acl.mdl}
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

    def ask(self, function: str, *arguments: Any) -> tuple[Any, ...] | None:
        """Call a function that some versions of CANN lack, for its values; None if it is missing or fails."""
        module, _, name = function.rpartition(".")
        if not hasattr(self._modules[module], name):
            return None
        result = self._function(function)(*arguments)
        *values, code = result if isinstance(result, tuple) else (result,)
        if code:
            self.get("acl.get_recent_err_msg")  # or the next error would show its text
            return None
        return tuple(values)

    def own(self, create: str, *arguments: Any, release: str) -> int:
        """Create a resource that `release_all` will release by `release(resource)`; returns its handle or address.

        Some creators return a code beside the handle, the others a handle that is 0 on failure. Raises AclError.
        """
        with signals_deferred():  # an interruption between the two steps would leave the resource without an owner
            result = self._function(create)(*arguments)
            has_code = isinstance(result, tuple)
            resource, code = result if has_code else (result, None)
            if code or not (has_code or resource):
                raise self._error(create, code)
            self._owned.append(_Release(release, (resource,)))
        return int(resource)

    def open_device(self, device_id: int) -> None:
        """Initialise pyACL, open a device, and make a new context the current one of this thread."""
        with signals_deferred():
            code = self._function("acl.init")()
            if code not in (0, REPEATED_INIT):
                raise self._error("acl.init", code)
            if code == 0:
                self._owned.append(_Release("acl.finalize", ()))
            elif hasattr(self._modules["acl"], "finalize_reference"):  # newer versions of CANN count their users
                self._owned.append(_Release("acl.finalize_reference", ()))
            self.call("acl.rt.set_device", device_id)
            self._owned.append(_Release("acl.rt.reset_device", (device_id,)))
        self.own("acl.rt.create_context", device_id, release="acl.rt.destroy_context")

    def before_release(self, function: str, *arguments: Any) -> None:
        """Register a call that `release_all` makes before it releases the resources owned so far."""
        self._owned.append(_Release(function, arguments))

    def release_all(self) -> list[BaseException]:
        """Release everything that is owned, the latest first. A failure does not stop it; returns all failures."""
        failures: list[BaseException] = []
        with signals_deferred():
            while self._owned:
                release = self._owned.pop()
                try:
                    self.call(release.function, *release.arguments)
                except BaseException as error:  # the rest is released all the same
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
        report = self._function("acl.get_recent_err_msg")() or ""  # reading the text clears it: read here only
        message = f"{function} {said}{meaning}{f': {report}' if report else ''}; see docs/ascend.md"
        return AclError(message, code, report)
