"""How many commands a user may have in flight: not finished, and not held.

What is sent beyond that is accepted and held. When one of the user's ends, the next goes, by its turn. So nobody can
fill the common queue, and whoever sends one command waits behind a few of each other user, however many those sent.
"""

import time
from typing import Any
from uuid import UUID

from django.conf import settings
from django.db import transaction
from django.db.models import Count, Q
from django.utils import timezone

from accounts import audit
from accounts.audit import Action
from accounts.models import Role, User
from accounts.permissions import user_roles
from commands.claims import let_go, lock_if_below
from commands.models import Command, CommandLimit
from commands.states import Stage
from gateway.locks import lock_number, transaction_lock

# So long a process does not see a new limit, or a new role of a user.
REMEMBERED = 5.0
MOST_REMEMBERED = 10_000
SWEPT_USERS = 100

_remembered: dict[UUID, tuple[float, int]] = {}  # until when, by time.monotonic(), and the limit


def limit_of(user_id: UUID) -> int:
    """Return the user's own limit, else the highest of their roles', else everybody's, else that of the settings."""
    now = time.monotonic()
    until, limit = _remembered.get(user_id, (0.0, 0))
    if until <= now:
        limit = _limit_now(user_id)
        if len(_remembered) >= MOST_REMEMBERED:
            _remembered.clear()
        _remembered[user_id] = (now + REMEMBERED, limit)
    return limit


def forget_limits() -> None:
    """Read them again: they have changed."""
    _remembered.clear()


def _limit_now(user_id: UUID) -> int:
    limits = list(CommandLimit.objects.filter(Q(user=user_id) | Q(user=None)))
    own = [each.in_flight for each in limits if each.user_id]
    of_roles = {each.role_id: each.in_flight for each in limits if each.role_id}
    if of_roles and not own:
        own = [of_roles[role.pk] for role in user_roles(User(pk=user_id)) if role.pk in of_roles]
    everybody = [each.in_flight for each in limits if not each.user_id and not each.role_id]
    return max(own or everybody or [int(settings.COMMANDS_IN_FLIGHT)])


def in_flight(user_id: UUID) -> int:
    return Command.objects.filter(user=user_id, held=False, finished_at=None).order_by().count()


def hold_beyond_limit(*commands: Command) -> None:
    """Hold those of a user's new commands with which they would have more in flight than they may have.

    Within the transaction that stores them. Exact: below the limit, only one transaction at a time adds to those of a
    user. At the limit none has to wait for another.
    """
    user_id = commands[0].user_id
    limit = limit_of(user_id)
    is_below = lock_if_below(user_id=user_id, limit=limit, name=_lock_name(user_id))
    free = limit - in_flight(user_id) if is_below else 0
    for place, command in enumerate(commands):
        command.held = place >= free


def lock_of(user_id: UUID) -> int:
    """Return the number of the lock that whoever adds to what a user has in flight holds, below the limit."""
    return lock_number(_lock_name(user_id))


def _lock_name(user_id: UUID) -> str:
    return f"commands of {user_id}"


def let_next_go(user_id: UUID) -> Stage | None:
    """Let the next one of a user go that is held, if they are below their limit. Return the stage to wake then.

    Within the transaction that ended another one of theirs: each that ends lets one go at most, so no lock is needed.
    """
    return let_go(user_id=user_id, limit=limit_of(user_id), now=timezone.now())


def let_go_what_may() -> set[Stage]:
    """Let go what is held though its user is below the limit, which was raised, say. Return the stages to wake.

    For the sweep: of SWEPT_USERS users at a time, in turn.
    """
    stages: set[Stage] = set()
    users = _users_with_held()
    unfinished = Command.objects.filter(user__in=users, held=False, finished_at=None).order_by()
    counts = dict(unfinished.values_list("user").annotate(Count("pk")))
    for user_id in users:
        limit = limit_of(user_id)
        if counts.get(user_id, 0) >= limit:
            continue
        with transaction.atomic():
            transaction_lock(_lock_name(user_id))
            for _ in range(limit - in_flight(user_id)):
                stage = let_go(user_id=user_id, limit=limit, now=timezone.now())
                if stage is None:
                    break
                stages.add(stage)
    return stages


class _Position:
    """Where the sweep of this process goes on."""

    user_id = UUID(int=0)


def _users_with_held() -> list[UUID]:
    """Return the next users of whom something is held: each found in the index, however much of theirs is."""
    found: list[UUID] = []
    while len(found) < SWEPT_USERS:
        held = Command.objects.filter(held=True, user__gt=_Position.user_id).order_by("user")
        user_id = held.values_list("user", flat=True).first()
        _Position.user_id = user_id or UUID(int=0)
        if user_id is None:
            break
        found.append(user_id)
    return found


def limit_save(
    *, actor: User, limit: CommandLimit | None, user: User | None, role: Role | None, in_flight: int, reason: str = ""
) -> CommandLimit:
    """Make a limit, or change this one: of a user, of a role, or without both of everybody.

    Each process sees it within REMEMBERED seconds. Raises ValidationError (Django's), field by field.
    """
    with transaction.atomic():
        before = _facts(limit or CommandLimit())
        saved = limit or CommandLimit()
        saved.user, saved.role, saved.in_flight = user, role, in_flight
        saved.full_clean()
        saved.save()
        action = Action.COMMAND_LIMIT_CREATED if limit is None else Action.COMMAND_LIMIT_CHANGED
        changes = audit.changes_between(before, _facts(saved))
        audit.record(action, actor=actor, target=saved, changes=changes, reason=reason)
    forget_limits()
    return saved


def limit_delete(*, actor: User, limit: CommandLimit, reason: str = "") -> None:
    """Delete a limit: another one, or that of the settings, holds."""
    with transaction.atomic():
        changes = {name: (value, None) for name, value in _facts(limit).items()}
        audit.record(Action.COMMAND_LIMIT_DELETED, actor=actor, target=limit, changes=changes, reason=reason)
        limit.delete()
    forget_limits()


def _facts(limit: CommandLimit) -> dict[str, Any]:
    user, role = limit.user, limit.role
    return {"user": user and user.username, "role": role and role.name, "in_flight": limit.in_flight}
