"""What a schema cannot say of a request: names that are new each time, times that have not passed, and waits that end soon.

Only what is valid is replaced, and by something valid, so that a case stays what it was made for.
"""

import re
import uuid

import schemathesis

KEY = "Idempotency-Key"


def events(body):
    """The objects that a body is made of."""
    return [event for event in (body if isinstance(body, list) else [body]) if isinstance(event, dict)]


@schemathesis.hook
def filter_case(context, case):
    """Of an image, the name without the tag is bounded. To JSON Schema, 1.0 is an integer, and to CloudEvents it is none."""
    builds = [event.get("data", event) for event in events(case.body)]
    floats = any(isinstance(value, float) for event in events(case.body) for value in event.values())
    return not floats and not any(isinstance(build, dict) and len(str(build.get("image"))) > 200 for build in builds)


@schemathesis.hook
def before_call(context, case, kwargs):
    if isinstance(case.headers.get(KEY) if case.headers else None, str) and re.fullmatch("[!-~]{1,255}", case.headers[KEY]):
        case.headers[KEY] = str(uuid.uuid4())
    query = dict(case.query or {})
    if re.fullmatch("0|[0-9]{1,4}ms|[0-5]?[0-9]s|60s|[01]m", str(query.get("wait"))):
        case.query = {**query, "wait": "10ms"}
    for event in events(case.body):
        if "specversion" in event and isinstance(event.get("id"), str) and event["id"]:
            event["id"] = str(uuid.uuid4())
        if re.fullmatch(r"\d{4}-\d\d-\d\d[Tt ].*([Zz]|[+-]\d\d:\d\d)", str(event.get("until"))):
            event["until"] = "2999" + event["until"][4:].replace("-02-29", "-02-28")
