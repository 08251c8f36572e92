"""What every error of the API has in common."""

import json
from typing import Any

from gateway.api.errors import CATALOGUE, ErrorCode

MEMBERS = {"type", "title", "status", "detail", "code", "request_id"}


def problem_of(response: Any, code: ErrorCode) -> dict[str, Any]:
    """Return the body of an answer after making sure that it is the problem that `code` stands for."""
    assert response.headers["Content-Type"] == "application/problem+json", response.content
    body: dict[str, Any] = response.json()
    assert body["code"] == code, body
    assert body.keys() - {"errors"} == MEMBERS
    assert response.status_code == body["status"] == CATALOGUE[code].status
    assert body["type"] == f"/api-docs/errors#{code}"
    assert body["title"] == str(CATALOGUE[code].title)
    assert body["detail"]
    assert body["request_id"] == response.headers["X-Request-ID"]
    assert response.headers.get("WWW-Authenticate") == ("Bearer" if body["status"] == 401 else None)
    return body


def fields_of(response: Any) -> dict[str, str]:
    """Return field -> code of an answer that says which values are invalid."""
    errors = problem_of(response, ErrorCode.VALIDATION_ERROR)["errors"]
    assert all(error.keys() == {"field", "code", "detail"} and error["detail"] for error in errors)
    return {error["field"]: error["code"] for error in errors}


def escaped_json(body: Any) -> dict[str, Any]:
    """Return the arguments to post JSON in ASCII: the only way in which half of a surrogate pair can be sent."""
    return {"data": json.dumps(body), "content_type": "application/json"}
