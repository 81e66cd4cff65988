"""What the requests have to be like that a JSON schema cannot say.

Only values that are allowed are replaced, by others that are allowed: what is wrong on purpose stays wrong.
"""

import re
import threading

import schemathesis

# Of the buckets under test, and what three nodes can meet.
N = 3
SHORT = re.compile(r"0*([1-9]|[1-9][0-9]|[1-9][0-9]{2}|1[0-9]{3})ms|0*[1-2]s")
TTL = re.compile(r"0*[1-9][0-9]*[smhd]?")
CONTEXT = re.compile(r"[A-Za-z0-9_-]{1,4096}")

contexts: dict[tuple, str] = {}
lock = threading.Lock()


def object_of(case):
    path = case.path_parameters or {}
    return (str(path.get("bucket")), str(path.get("key")))


def text(mapping, name):
    value = (mapping or {}).get(name)
    return value if isinstance(value, str) else None


@schemathesis.hook
def before_call(context, case, kwargs):
    for place, names in ((case.headers, ("Rondo-R", "Rondo-W")), (case.query, ("r", "w"))):
        for name in names:
            # Above N is refused.
            if (text(place, name) or "none") in "4567":
                place[name] = str(N)
    pairs = (("Rondo-R", "r"), ("Rondo-W", "w"), ("Rondo-Timeout", "timeout"), ("Rondo-Ttl", "ttl"))
    for header, parameter in pairs:
        # The two may not contradict each other.
        if text(case.headers, header) and parameter in (case.query or {}):
            del case.headers[header]
    for place, name in ((case.headers, "Rondo-Timeout"), (case.query, "timeout")):
        # A deadline of a few milliseconds is a 504, and rightly so.
        if SHORT.fullmatch(text(place, name) or ""):
            place[name] = "5s"
    for place, name in ((case.headers, "Rondo-Ttl"), (case.query, "ttl")):
        # More than 3650 days are refused; a value of a second is gone when it is looked for.
        if TTL.fullmatch(text(place, name) or ""):
            place[name] = "1h"
    if case.method == "PUT" and text(case.headers, "If-None-Match") == "*":
        # One condition at most.
        case.headers.pop("If-Match", None)
    if text(case.headers, "If-Match") == "0":
        # What the generator falls back to: it has a format of its own for this header and cannot join a pattern to it.
        case.headers["If-Match"] = "*"
    if CONTEXT.fullmatch(text(case.headers, "Rondo-Context") or ""):
        # Contexts cannot be made up.
        with lock:
            real = contexts.get(object_of(case))
        if real is None:
            del case.headers["Rondo-Context"]
        else:
            case.headers["Rondo-Context"] = real
    if len(text(case.headers, "Content-Encoding") or "") <= 1024:
        # It comes back as it was sent, and the client would decode what was never encoded.
        (case.headers or {}).pop("Content-Encoding", None)
    if isinstance(case.body, dict) and case.path == "/v1/buckets/{bucket}":
        keep_within_cluster(case.body)


def keep_within_cluster(properties):
    """More owners than there are nodes, an R or W above N, a lifetime that is over before the next request."""
    if properties.get("n") in range(1, 8):
        properties["n"] = N
    for name in ("r", "w"):
        if properties.get(name) in (4, 5, 6, 7, "4", "5", "6", "7"):
            properties[name] = N
    ttl = properties.get("ttl")
    if TTL.fullmatch(ttl if isinstance(ttl, str) else ""):
        properties["ttl"] = "1h"
    elif type(ttl) is int and 1 <= ttl <= 315360000:
        properties["ttl"] = 3600


@schemathesis.hook
def after_call(context, case, response):
    values = response.headers.get("rondo-context")
    if values:
        with lock:
            contexts[object_of(case)] = values[0]
