"""Where commands are in the API, and what an answer says is wrong with them."""

URL = "/api/v2/commands"


def fields(answer):
    assert answer["Content-Type"] == "application/problem+json"
    return {error["field"] for error in answer.json()["errors"]}
