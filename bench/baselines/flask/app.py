"""The contact form as Flask and PyMongo would do it: the same checks, one `insert_one` a request.

MONGODB_URI names the server, a replica set: by its default each insert waits for a majority and the journal, as the worker's do.
"""

import os
import re
import unicodedata
import uuid
from datetime import datetime, timezone

from flask import Flask, jsonify, request
from pymongo import MongoClient

# The rule of HTML's <input type="email">.
EMAIL = re.compile(
    r"[a-zA-Z0-9.!#$%&'*+/=?^_`{|}~-]+@[a-zA-Z0-9](?:[a-zA-Z0-9-]{0,61}[a-zA-Z0-9])?"
    r"(?:\.[a-zA-Z0-9](?:[a-zA-Z0-9-]{0,61}[a-zA-Z0-9])?)*"
)

app = Flask(__name__)
app.config["MAX_CONTENT_LENGTH"] = 64 * 1024
contacts = MongoClient(os.environ["MONGODB_URI"], uuidRepresentation="standard").portfolio.contacts


def control(text, allowed=""):
    return any(unicodedata.category(c) == "Cc" and c not in allowed for c in text)


def text(body, name, longest, errors, required=True, allowed=""):
    value = body.get(name)
    if value is None and not required:
        return None
    if not isinstance(value, str):
        errors.append({"pointer": f"/{name}", "detail": "required, as text"})
        return ""
    value = value.strip()
    if required and not value:
        errors.append({"pointer": f"/{name}", "detail": "required"})
    elif len(value) > longest:
        errors.append({"pointer": f"/{name}", "detail": f"longer than {longest} characters"})
    elif control(value, allowed):
        errors.append({"pointer": f"/{name}", "detail": "has control characters"})
    return value


@app.post("/api/contact")
def contact():
    body = request.get_json() if request.is_json else request.form.to_dict()
    if not isinstance(body, dict):
        return jsonify(title="Bad Request", status=400, detail="not an object"), 400
    errors = []
    document = {
        "_id": uuid.uuid4(),
        "name": text(body, "name", 100, errors),
        "email": text(body, "email", 254, errors),
        "subject": text(body, "subject", 200, errors, required=False),
        "message": text(body, "message", 5000, errors, allowed="\r\n\t"),
        "received_at": datetime.now(timezone.utc),
    }
    if document["email"] and not EMAIL.fullmatch(document["email"]):
        errors.append({"pointer": "/email", "detail": "not an e-mail address"})
    if errors:
        return jsonify(title="Unprocessable Content", status=422, errors=errors), 422
    contacts.insert_one(document)
    return jsonify(id=str(document["_id"]), received_at=document["received_at"].isoformat(timespec="milliseconds")), 202
