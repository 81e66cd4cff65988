"""What the requests have to be like that a JSON schema cannot say.

Only values that are allowed are replaced, by others that are allowed: what is wrong on purpose stays wrong.
"""

import json
import re
import threading

import schemathesis

# Of the buckets under test, and what three nodes can meet.
N = 3
SHORT = re.compile(r"0*([1-9]|[1-9][0-9]|[1-9][0-9]{2}|1[0-9]{3})ms|0*[1-2]s")
TTL = re.compile(r"0*[1-9][0-9]*[smhd]?")
TTL_SECONDS_MAX = 3650 * 24 * 3600
CONTEXT = re.compile(r"[A-Za-z0-9_-]{1,4096}")
CURSOR = re.compile(r"[A-Za-z0-9_-]{1,1381}")
# As in the document.
QUOTED = r'"([!#-)+.-~-][!#-+.-~-]*|[*][!#-+.-~-]+)"'
EXAMPLE = '"6f3c2a91d7e845b0-1795266000123456"'
IF_MATCH = re.compile(rf"[*]|{QUOTED}( *, *{QUOTED})*")
ETAG = re.compile(r"s[0-9a-f]{32}|(0|[1-9a-f][0-9a-f]{0,15})-[1-9a-f][0-9a-f]{0,15}")
NDJSON = "application/x-ndjson"
LISTING = "/v1/kv/{bucket}"
OBJECT = "/v1/kv/{bucket}/{key}"
# No parameter of an OpenAPI document may be called Accept: these are asked for in turns.
SHAPES = {
    LISTING: [None, NDJSON],
    OBJECT: [None, "application/vnd.rondo.siblings+json", "multipart/mixed"],
}

contexts: dict[tuple, str] = {}
etags: dict[tuple, str] = {}
cursors: dict[tuple, str] = {}
lock = threading.Lock()


def object_of(case):
    path = case.path_parameters or {}
    return (str(path.get("bucket")), str(path.get("key")))


def listing_of(case):
    path, query = case.path_parameters or {}, case.query or {}
    return (str(path.get("bucket")), str(query.get("prefix", "")))


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
    pairs = (
        ("Rondo-R", "r"),
        ("Rondo-W", "w"),
        ("Rondo-Quorum", "quorum"),
        ("Rondo-Timeout", "timeout"),
        ("Rondo-Ttl", "ttl"),
    )
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
    condition = text(case.headers, "If-Match") or ""
    if condition == EXAMPLE or (IF_MATCH.fullmatch(condition) and turn(case) % 2 == 0):
        match_what_is_there(case)
    keep_made_up_out(case.headers, "Rondo-Context", CONTEXT, contexts, object_of(case))
    if case.path == LISTING:
        keep_made_up_out(case.query, "cursor", CURSOR, cursors, listing_of(case))
    if text(case.query, "siblings") == "json" and ETAG.fullmatch(text(case.query, "sibling") or ""):
        # One of the two.
        del case.query["sibling"]
    if len(text(case.headers, "Content-Encoding") or "") <= 1024:
        # It comes back as it was sent, and the client would decode what was never encoded.
        (case.headers or {}).pop("Content-Encoding", None)
    if isinstance(case.body, dict) and case.path == "/v1/buckets/{bucket}":
        keep_within_cluster(case.body)
    if isinstance(case.body, list) and case.path == "/v1/batch":
        for line in case.body:
            if isinstance(line, dict):
                make_possible(line)
    if case.method in ("GET", "HEAD") and case.path in SHAPES:
        ask_for_a_shape(case)


def keep_made_up_out(place, name, pattern, known, of):
    """Tokens cannot be made up: one of an earlier answer, or none."""
    if not pattern.fullmatch(text(place, name) or ""):
        return
    with lock:
        real = known.get(of)
    if real is None:
        del place[name]
    else:
        place[name] = real


def keep_within_cluster(properties):
    """More owners than there are nodes, an R or W above N, a lifetime that is over before the next request."""
    if properties.get("n") in range(1, 8):
        properties["n"] = N
    for name in ("r", "w"):
        if properties.get(name) in (4, 5, 6, 7, "4", "5", "6", "7"):
            properties[name] = N
    keep_alive(properties)


def keep_alive(fields):
    ttl = fields.get("ttl")
    if TTL.fullmatch(ttl if isinstance(ttl, str) else ""):
        fields["ttl"] = "1h"
    elif type(ttl) is int and 1 <= ttl <= TTL_SECONDS_MAX:
        fields["ttl"] = 3600


def make_possible(line):
    """A line of a batch: what headers and parameters of a request on an object may be."""
    for name in ("r", "w"):
        if line.get(name) in (4, 5, 6, 7):
            line[name] = N
    keep_alive(line)
    if line.get("op") == "put" and line.get("if_none_match") == "*":
        line.pop("if_match", None)
    keep_made_up_out(line, "context", CONTEXT, contexts, (str(line.get("bucket")), str(line.get("key"))))


def turn(case):
    """A number of the request itself, so that the same seed makes the same requests."""
    asked = json.dumps([case.path_parameters, case.query], sort_keys=True, default=str)
    return sum(asked.encode("utf-8", "surrogatepass"))


def match_what_is_there(case):
    """A condition that is made up never holds."""
    with lock:
        real = etags.get(object_of(case))
    if real is None:
        del case.headers["If-Match"]
    else:
        case.headers["If-Match"] = real


def ask_for_a_shape(case):
    shapes = SHAPES[case.path]
    shape = shapes[turn(case) % len(shapes)]
    if shape is not None:
        case.headers = {**(case.headers or {}), "Accept": shape}


@schemathesis.hook
def after_call(context, case, response):
    values = response.headers.get("rondo-context")
    if values:
        with lock:
            contexts[object_of(case)] = values[0]
    if case.path == OBJECT:
        values = response.headers.get("etag")
        with lock:
            if values and "sibling" not in (case.query or {}):
                etags[object_of(case)] = values[0]
            elif response.status_code in (204, 404):
                etags.pop(object_of(case), None)
    if case.path == LISTING and case.method == "GET" and response.status_code == 200:
        tail = response.content.rsplit(b"\n", 2)[-2]
        following = json.loads(tail).get("next")
        if following is not None:
            with lock:
                cursors[listing_of(case)] = following


@schemathesis.serializer(NDJSON)
def to_lines(context, value):
    """Lines are described as the elements of an array. What is no array is one line that is wrong."""
    lines = value if isinstance(value, list) else [value]
    return b"".join(json.dumps(line, default=str).encode() + b"\n" for line in lines)


@schemathesis.deserializer(NDJSON)
def from_lines(context, response):
    return [json.loads(line) for line in response.content.splitlines()]


@schemathesis.check
def a_line_for_each_line(context, response, case):
    """A batch is a 200 whatever its lines are, so it is they that are looked at."""
    if case.path != "/v1/batch" or response.status_code != 200:
        return
    answers = from_lines(None, response)
    asked = [line for line in (response.request.body or b"").splitlines() if line.strip()]
    if len(answers) != len(asked):
        raise AssertionError(f"{len(asked)} lines in, {len(answers)} lines out")
    if case.meta is None or not case.meta.generation.mode.is_positive:
        return
    for line, answer in zip(asked, answers):
        if answer["status"] not in (200, 204, 304, 404, 409, 412):
            raise AssertionError(f"{line} was answered with {answer}")
