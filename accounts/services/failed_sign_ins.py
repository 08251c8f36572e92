"""Slows down who guesses passwords, without locking out whose they are.

Every try counts for three: the login, the client's address, and the one from the other. It counts as failed from its
beginning, so that a hundred at once get no further than a hundred one after the other; what turns out right is taken
back. A try that is refused here counts for nothing, and no password is hashed for it.

The login counts as it was typed, whether or not somebody has it: whom the limits concern tells nothing about who
exists. The delay for a login as a whole is short, and neither it nor that of the address applies where its user was
signed in before: an attacker can slow others down, but not keep them out. (So who shares an address that is blocked can
tell who was signed in there.)
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from math import ceil
from uuid import UUID

from django.db import connection, transaction
from django.db.models import Q
from django.utils import timezone
from django.utils.crypto import salted_hmac

from accounts import audit
from accounts.audit import Action
from accounts.models import AuditEntry, DeviceSession, FailedSignIns, User
from accounts.models.mail import MailKind
from accounts.selectors import user_by_login
from accounts.services.mail import mail_send
from gateway.api.errors import ApiError, ErrorCode
from gateway.batches import delete_in_batches
from gateway.origin import network_of, origin

# A block later than this after the one before begins something new, of which the user is told again.
EPISODE = timedelta(days=1)
KEPT = timedelta(days=2)
KNOWN_FOR = timedelta(days=90)
RESET_KNOWN_FOR = timedelta(hours=1)
_NOBODY = UUID(int=0)
_MOST_KNOWN = 200


@dataclass(frozen=True)
class Limit:
    """After `free` failures the next has to wait 1 s, then 2 s, 4 s ...; one is forgotten in every `forgets_one_in`."""

    free: int
    longest: timedelta
    forgets_one_in: timedelta

    def delay(self, failures: int) -> timedelta | None:
        if failures < self.free:
            return None
        return min(timedelta(seconds=2 ** min(failures - self.free, 20)), self.longest)


PAIR = Limit(5, timedelta(minutes=15), timedelta(hours=1))
ACCOUNT = Limit(10, timedelta(seconds=30), timedelta(hours=1))
# Many people may share an address: what a few of them mistype must not add up.
ADDRESS = Limit(20, timedelta(minutes=15), timedelta(minutes=1))
# Of a second factor's million codes three are right. To guess here one knows the password already.
CODE = Limit(5, timedelta(minutes=15), timedelta(hours=1))


@dataclass(frozen=True)
class _Count:
    """What a try has made of a counter, and what to make of it if the try is taken back."""

    failures: int
    last_failed_at: datetime
    blocked_until: datetime | None
    before: tuple[datetime, datetime | None]
    begins_episode: bool


@dataclass(frozen=True)
class Attempt:
    """A try that was let through. Tell how it ended: failed(), succeeded(), or withdrawn() if it was neither."""

    user: User | None
    account: str
    address: str
    pair: str
    counts: Mapping[str, _Count]


def check(login: str) -> Attempt:
    """Count a try. Raise ApiError (too_many_attempts) if there may be none now with this login from this client."""
    where = network_of(origin().address) or "-"
    [account] = _accounts(login)
    user = user_by_login(login)
    keys = f"account:{account}", f"address:{where}", f"pair:{account}|{where}"
    counts = _count(dict(zip(keys, (ACCOUNT, ADDRESS, PAIR), strict=True)), user=user, spared=keys[:2])
    return Attempt(user, *keys, counts)


def failed(attempt: Attempt, why: ErrorCode = ErrorCode.INVALID_CREDENTIALS) -> None:
    """Say that the try was wrong. Its user learns when the login is blocked, once in a while.

    Failures are recorded up to the block, and for people that there are: an attacker does not fill the record.
    """
    account, address = (attempt.counts.get(key) for key in (attempt.account, attempt.address))
    with transaction.atomic():
        # Also so that there is something to commit for a login that nobody has: time would tell.
        FailedSignIns.objects.filter(key=attempt.pair).update(last_failed_at=timezone.now())
        if attempt.user and account and account.failures <= ACCOUNT.free:
            audit.record(Action.SIGN_IN_FAILED, actor=None, target=attempt.user, reason=why)
        if attempt.user and account and account.begins_episode:
            audit.record(Action.SIGN_INS_BLOCKED, actor=None, target=attempt.user, reason="many failures for this user")
            mail_send(MailKind.SIGN_INS_FAILED, user=attempt.user, data={"address": origin().address})
        if address and address.begins_episode:
            audit.record(Action.SIGN_INS_BLOCKED, actor=None, reason="many failures from this address")


def succeeded(attempt: Attempt) -> None:
    """Forget the failures of the login and of the pair; those of the address stay, but for this try."""
    with transaction.atomic():
        rows = {row.key: row for row in _lock(Q(key__in=attempt.counts))}
        _take_back(attempt, [row for key, row in rows.items() if key == attempt.address])
        _forget([row for key, row in rows.items() if key != attempt.address])


def withdrawn(attempt: Attempt) -> None:
    """Take a try back that was neither right nor wrong."""
    with transaction.atomic():
        _take_back(attempt, _lock(Q(key__in=attempt.counts)))


def forget(login: str) -> None:
    """Forget the failures of a login, here and as a whole: its user has proved in another way who they are."""
    where = network_of(origin().address) or "-"
    [account] = _accounts(login)
    with transaction.atomic():
        _forget(_lock(Q(key__in=(f"account:{account}", f"pair:{account}|{where}"))))


def code_guess_count(user: User, *, spare_known: bool = False) -> None:
    """Count a try to guess a code of the user's second factor, from wherever.

    `spare_known` lets through who comes from where the user was signed in before, if other limits hold there.
    Raises ApiError (too_many_attempts).
    """
    key = _code_key(user)
    count = _count({key: CODE}, user=user, spared=[key] if spare_known else [])[key]
    if count.begins_episode:
        with transaction.atomic():
            audit.record(Action.SIGN_INS_BLOCKED, actor=None, target=user, reason="many wrong codes for this user")
            mail_send(MailKind.SIGN_INS_FAILED, user=user, data={"address": origin().address})


def code_guesses_forget(user: User) -> None:
    FailedSignIns.objects.filter(key=_code_key(user)).delete()


def user_unlock(*, actor: User, user: User, reason: str = "") -> None:
    """Forget all failures for a user, from wherever. Who tries from a blocked address is blocked still."""
    with transaction.atomic():
        FailedSignIns.objects.filter(pk__in=[row.pk for row in _lock(failures_of(user))]).delete()
        audit.record(Action.USER_UNLOCKED, actor=actor, target=user, reason=reason)


def failures_forget(*, actor: User, row: FailedSignIns, reason: str) -> None:
    """Forget what one counter says, such as that of an address. A block that came of it ends."""
    with transaction.atomic():
        audit.record(Action.USER_UNLOCKED, actor=actor, target=row, reason=reason)
        FailedSignIns.objects.filter(pk=row.pk).delete()


def failures_of(user: User) -> Q:
    """Return how the counters are found that concern a user, from wherever."""
    own = Q(key=_code_key(user))
    for account in _accounts(user.username, user.email):
        own |= Q(key=f"account:{account}") | Q(key__startswith=f"pair:{account}|")
    return own


def old_failures_delete(*, batch: int = 1000) -> int:
    """Delete counters that say nothing any more. Return how many."""
    return delete_in_batches(FailedSignIns.objects.filter(last_failed_at__lt=timezone.now() - KEPT), batch=batch)


def _count(limits: Mapping[str, Limit], *, user: User | None, spared: Sequence[str]) -> dict[str, _Count]:
    now = timezone.now()
    rows = FailedSignIns.objects.filter(key__in=limits)
    _refuse_blocked(rows, user, spared, now)  # without a lock: whoever keeps knocking at a closed door costs little
    with transaction.atomic():
        # In the same order everywhere, or two could wait for each other. The update changes nothing; it locks what is
        # there already, which another's success would else delete before it is read.
        fresh = [FailedSignIns(key=key, last_failed_at=now) for key in sorted(limits)]
        FailedSignIns.objects.bulk_create(fresh, update_conflicts=True, unique_fields=["key"], update_fields=["key"])
        locked = list(rows.select_for_update().order_by("key"))
        _refuse_blocked(locked, user, spared, now)
        counts = {row.key: _add(row, limits[row.key], now) for row in locked}
        FailedSignIns.objects.bulk_update(locked, ["failures", "last_failed_at", "blocked_until"])
    return counts


def _add(row: FailedSignIns, limit: Limit, now: datetime) -> _Count:
    forgotten = max((now - row.last_failed_at) // limit.forgets_one_in, 0)
    before = row.last_failed_at + forgotten * limit.forgets_one_in, row.blocked_until
    row.failures = max(row.failures - forgotten, 0) + 1
    row.last_failed_at = now
    delay = limit.delay(row.failures)
    begins_episode = delay is not None and (row.blocked_until is None or row.blocked_until < now - EPISODE)
    if delay is not None:
        row.blocked_until = now + delay
    return _Count(row.failures, now, row.blocked_until, before, begins_episode)


def _refuse_blocked(rows: Iterable[FailedSignIns], user: User | None, spared: Sequence[str], now: datetime) -> None:
    """Refuse what is blocked. Blocks that others can bring about are `spared` whom the place is known for."""
    blocked = {row.key: row.blocked_until for row in rows if row.blocked_until is not None and row.blocked_until > now}
    if blocked and not (blocked.keys() <= set(spared) and _is_known_here(user, now)):
        wait = max(blocked.values()) - now
        raise ApiError(ErrorCode.TOO_MANY_ATTEMPTS, retry_after=ceil(wait.total_seconds()))


def _is_known_here(user: User | None, now: datetime) -> bool:
    """Return whether the user was signed in at this address before, or has just reset the password there by mail.

    Asks the same of the database about nobody.
    """
    here, user_id = network_of(origin().address), user.pk if user else _NOBODY
    sessions = DeviceSession.objects.filter(
        user_id=user_id, last_seen_at__gt=now - KNOWN_FOR, address__isnull=False
    ).order_by("-last_seen_at")
    resets = AuditEntry.objects.filter(
        actor_id=user_id, action=Action.PASSWORD_CHANGED, at__gt=now - RESET_KNOWN_FOR, address__isnull=False
    ).order_by("-at")
    addresses = [each for rows in (sessions, resets) for each in rows.values_list("address", flat=True)[:_MOST_KNOWN]]
    return here is not None and here in {network_of(address) for address in addresses}


def _lock(rows: Q) -> list[FailedSignIns]:
    return list(FailedSignIns.objects.select_for_update().filter(rows).order_by("key"))


def _take_back(attempt: Attempt, locked: list[FailedSignIns]) -> None:
    for row in locked:
        count = attempt.counts[row.key]
        row.failures = max(row.failures - 1, 0)
        if (row.last_failed_at, row.blocked_until) == (count.last_failed_at, count.blocked_until):
            row.last_failed_at, row.blocked_until = count.before
    FailedSignIns.objects.bulk_update(locked, ["failures", "last_failed_at", "blocked_until"])


def _forget(locked: list[FailedSignIns]) -> None:
    """Forget failures. That a login was blocked is kept: its user need not be told of it again."""
    now = timezone.now()
    told = [row for row in locked if row.key.startswith("account:") and row.blocked_until is not None]
    for row in told:
        row.failures, row.blocked_until = 0, min(row.blocked_until or now, now)
    FailedSignIns.objects.bulk_update(told, ["failures", "blocked_until"])
    FailedSignIns.objects.filter(pk__in=[row.pk for row in locked if row not in told]).delete()


def _accounts(*logins: str) -> list[str]:
    """Return what logins are counted under. Two that the database takes for the same user's name are one.

    Hashed: people type their passwords into the wrong field.
    """
    texts = [login if "@" in login else User.normalize_username(login) for login in logins]
    with connection.cursor() as cursor:  # letter case is for the database to judge, see user_by_login
        cursor.execute(f"SELECT {', '.join(['LOWER(CAST(%s AS TEXT))'] * len(texts))}", texts)
        folded = cursor.fetchone()
    return [salted_hmac("accounts.failed_sign_ins", text, algorithm="sha256").hexdigest() for text in folded]


def _code_key(user: User) -> str:
    return f"code:{user.pk}"
