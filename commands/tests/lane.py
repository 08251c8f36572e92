"""What goes the short way, for its tests."""

from commands.api import fast_lane

COMMANDS = fast_lane.LIST_PATH
TEXT = {"text": "echo Merhaba dünya \u2028"}


def path_of(command):
    return f"{COMMANDS}/{command.id}"
