"""CPython's answers for the differential tests: one JSON request a line on stdin, one JSON answer a line on stdout.

The first line says {"version": [MAJOR, MINOR], "unassigned": [[FIRST, LAST]]}.
A request is {"pattern": HEX, "paths": [HEX], "templates": [HEX]}, where HEX is bytes in hexadecimal, decoded as a file
name. The answer is {"error": TEXT}, or {"groups": N, "names": {...}, "matches": [...], "templates": [...]}: for each
path null or the byte ranges of the groups (null for one that took no part), for each template {"error": TEXT} or
{"subs": [HEX]}.
"timeout" stands for an answer that takes too long, or that a bug of CPython's own keeps from being given.
"""

import json
import re
import signal
import sys
import unicodedata
import warnings

TIMEOUT_CPU_S = 1.0


class TooSlow(Exception):
    """The regular expression takes exponential time."""


def on_alarm(_number, _frame):
    """Interrupts a match."""
    raise TooSlow


def decode(text):
    """HEX to a string as os.fsdecode makes it."""
    return bytes.fromhex(text).decode("utf-8", "surrogateescape")


def encode(text):
    """The way back; characters that no path can hold vanish."""
    return text.encode("utf-8", "surrogateescape")


def timed(function, *arguments):
    """The function's result, or "timeout"."""
    signal.setitimer(signal.ITIMER_VIRTUAL, TIMEOUT_CPU_S)
    try:
        return function(*arguments)
    except (TooSlow, SystemError):
        # SystemError: "The span of capturing group is wrong, please report a bug for the re module."
        return "timeout"
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)


def byte_range(path, match, group):
    """Start and end of a group in bytes."""
    if match.start(group) < 0:
        return None
    return [len(encode(path[: match.start(group)])), len(encode(path[: match.end(group)]))]


def match_path(pattern, path):
    """Ranges of all groups."""
    match = pattern.match(path)
    if match is None:
        return None
    return [byte_range(path, match, group) for group in range(pattern.groups + 1)]


def substitute(pattern, template, paths):
    """The substitutions with one template."""
    try:
        pattern.sub(template, "")
        if hasattr(re, "_parser"):
            re._parser.parse_template(template, pattern)
        else:
            re.sre_parse.parse_template(template, pattern)
    except (re.error, IndexError) as error:
        return {"error": str(error)}
    result = []
    for path in paths:
        sub = timed(pattern.sub, template, path)
        result.append(sub if sub == "timeout" else encode(sub).hex())
    return {"subs": result}


def answer(request):
    """The answer to one request."""
    try:
        pattern = re.compile(decode(request["pattern"]))
    except (re.error, OverflowError, ValueError, RecursionError) as error:
        return {"error": str(error)}
    paths = [decode(path) for path in request["paths"]]
    return {
        "groups": pattern.groups,
        "names": dict(pattern.groupindex),
        "matches": [timed(match_path, pattern, path) for path in paths],
        "templates": [substitute(pattern, decode(template), paths) for template in request["templates"]],
    }


def unassigned():
    """Inclusive ranges of the code points that this Python's Unicode doesn't know."""
    ranges = []
    for code in range(sys.maxunicode + 1):
        if unicodedata.category(chr(code)) != "Cn":
            continue
        if ranges and ranges[-1][1] == code - 1:
            ranges[-1][1] = code
        else:
            ranges.append([code, code])
    return ranges


def main():
    """Serves until the end of stdin."""
    warnings.simplefilter("ignore")
    signal.signal(signal.SIGVTALRM, on_alarm)
    print(json.dumps({"version": sys.version_info[:2], "unassigned": unassigned()}), flush=True)
    for line in sys.stdin:
        print(json.dumps(answer(json.loads(line))), flush=True)


main()
