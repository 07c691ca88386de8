# SPDX-License-Identifier: Apache-2.0
"""What pyACL's numbers mean: error codes, and the values of C enumerations.

pyACL exports no constants. The error codes are in CANN's table "aclError", part of its pyACL reference
(https://www.hiascend.com/document/detail/en/canncommercial/850/API/appdevgapi/). docs/ascend.md says what to do about
the codes that a user can act on; a test holds both tables together.
"""

from __future__ import annotations

MALLOC_HUGE_FIRST = 0
HOST_TO_DEVICE = 1
DEVICE_TO_HOST = 2
MEMORY = {"HBM": 1, "DDR": 0}  # aclrtMemAttr

# aclDataType -> name in DTYPE.
ACL_DTYPE = {
    0: "float32",
    1: "float16",
    2: "int8",
    3: "int32",
    4: "uint8",
    6: "int16",
    7: "uint16",
    8: "uint32",
    9: "int64",
    10: "uint64",
    11: "float64",
    12: "bool",
}

# The codes that a user of this suite can meet. "Probably": the cause is our guess, no document states it.
MEANINGS = {
    100000: "invalid parameter",
    100001: "acl is not initialised",
    100003: "invalid file",
    107000: "invalid runtime parameter",
    107001: "no such device id",
    107002: "the thread has no context",
    107003: "the stream belongs to another context",
    107006: "an event was not waited for",
    107020: "a task was not finished in time",
    107022: "the device's tasks are being aborted",
    107023: "the stream is being aborted",
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
    507000: "runtime internal error",
    507008: "SoC version; the model was probably compiled for another SoC",
    507009: "the device does not know this type of task",
    507010: "the device lost its heartbeat",
    507011: "the model failed to execute",
    507013: "system DMA error",
    507014: "AI core timeout",
    507015: "AI core exception",
    507016: "AI core trap",
    507017: "AI CPU timeout",
    507018: "AI CPU exception",
    507033: "the device could not be opened (driver, or device not mounted into the container)",
    507034: "vector core timeout",
    507035: "vector core exception",
    507036: "vector core trap",
    507042: "AI core read beyond its memory",
    507043: "AI core wrote beyond its memory",
    507044: "vector core read beyond its memory",
    507045: "vector core wrote beyond its memory",
    507046: "the stream was not finished in time",
    507047: "the event did not happen in time",
    507048: "FFTS+ task timeout",
    507049: "FFTS+ task exception",
    507050: "FFTS+ task trap",
    507053: "device memory error",
    507054: "multi-bit error of the device's HBM",
    507055: "suspected error of the device's memory",
    507899: "driver error",
    507900: "AI CPU internal error",
    507901: "connection to the device lost",
    545000: "internal error of the graph engine",
    545001: "the graph engine could not load the model",
    545009: "the graph engine could not unload the model",
    545601: "the graph engine's execution timed out",
}
WRONG_SOC = 507008
REPEATED_INIT = 100002  # acl.init was already called in this process; CANN only counts another user
