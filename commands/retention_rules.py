"""What administrators do: say for how long what is kept."""

from django.core.exceptions import ValidationError
from django.db import transaction
from django.http import Http404
from django.utils.translation import gettext as _

from accounts import audit
from accounts.audit import Action
from accounts.models import User
from commands.models import Kept, RetentionRule


def retention_change(*, actor: User, rule: RetentionRule, keep_days: int | None, reason: str = "") -> RetentionRule:
    """Change for how long a rule keeps what it is about. It then looks at everything old anew.

    Raises ValidationError (Django's) for `keep_days`; Http404 if there is no such rule.
    """
    with transaction.atomic():
        # All of that status: none of them may come to contradict another at the same time.
        rules = {row.what: row for row in _rules_of(rule.status)}
        row = rules.get(rule.what)
        if row is None:
            raise Http404
        changed = audit.changes_between({"keep_days": row.keep_days}, {"keep_days": keep_days})
        row.keep_days = keep_days
        row.full_clean()
        _check_together(rules)
        if changed:
            row.done_at = row.done_id = None
            row.save(update_fields=["keep_days", "done_at", "done_id"])
            audit.record(Action.RETENTION_CHANGED, actor=actor, target=row, changes=changed, reason=reason)
    return row


def _rules_of(status: str) -> list[RetentionRule]:
    return list(RetentionRule.objects.select_for_update(no_key=True).filter(status=status).order_by("pk"))


def _check_together(rules: dict[str, RetentionRule]) -> None:
    """Raise ValidationError if a part is to be kept for longer than the command, with which it goes."""
    longest = rules[Kept.COMMANDS].keep_days
    for what, part in rules.items():
        if what != Kept.COMMANDS and longest is not None and part.keep_days is not None and part.keep_days > longest:
            sentence = _("%(part)s would be kept for %(days)s days, and the command itself for %(longest)s.")
            values = {"part": part.get_what_display(), "days": part.keep_days, "longest": longest}
            raise ValidationError({"keep_days": ValidationError(sentence % values, code="longer_than_command")})
