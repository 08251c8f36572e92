import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from django.contrib.auth.models import Group, Permission
from django.db.models import Value
from django.http import Http404
from django.utils.translation import gettext as _
from rest_framework import exceptions

from accounts import audit
from accounts.audit import Action
from accounts.models import Role, RouteRule, User
from accounts.models.users import USER_NAME, without_look_alikes
from accounts.permissions import RoleTree, name_of, permissions_named, unknown_names
from accounts.powers import changing_access, powers_of
from accounts.routes import routes
from gateway.api.errors import ApiError, ErrorCode
from gateway.api.permissions import Access

# Words as in user names, for the same reason.
MAX_NAME = 150
MEMBERS_RECORDED = 100  # by name, of those who lose a role that is deleted; all are counted
_ROLE_NAME = re.compile(rf"{USER_NAME.pattern}( {USER_NAME.pattern})*")


def role_create(
    *,
    actor: User | None,
    name: str,
    description: str = "",
    parent: Role | None = None,
    permissions: Iterable[str] = (),
    requires_second_factor: bool = False,
) -> Role:
    """Make a role. Raises ValidationError, which names the fields; ApiError: permission_denied."""
    with changing_access():
        given = _permissions(permissions)
        role = Role.objects.create(
            name=_name(name),
            description=description,
            parent=_parent(None, parent),
            requires_second_factor=requires_second_factor,
        )
        role.permissions.set(given)
        powers_of(actor).require_roles([role])
        changes = {field: (None, value) for field, value in _facts(role).items()}
        audit.record(Action.ROLE_CREATED, actor=actor, target=role, changes=changes)
    return role


def role_change(
    *,
    actor: User | None,
    role: Role,
    changes: Mapping[str, Any],
    reason: str = "",
    precondition: Callable[[], None] | None = None,
) -> Role:
    """Change name, description, parent, permissions (names) or requires_second_factor of a role.

    It changes all roles that inherit from it too, so the actor must have all that these give. `precondition` is called
    when nobody else can change the role any more, and may raise. Raises ValidationError, Http404, ApiError:
    built_in_role, permission_denied, last_administrator.
    """
    with changing_access():
        role = _locked(role, precondition)
        powers = powers_of(actor)
        powers.require_roles([role, *RoleTree.read().descendants(role)])
        before = _facts(role)
        _apply(role, changes)
        changed = audit.changes_between(before, _facts(role))
        if role.built_in and changed.keys() - {"requires_second_factor"}:
            raise ApiError(ErrorCode.BUILT_IN_ROLE)
        powers.require_roles([role])
        if changed:
            audit.record(Action.ROLE_CHANGED, actor=actor, target=role, changes=changed, reason=reason)
    return role


def role_delete(
    *, actor: User | None, role: Role, reason: str = "", precondition: Callable[[], None] | None = None
) -> None:
    """Delete a role; its members lose it.

    Raises Http404, ApiError: built_in_role, role_in_use, permission_denied, last_administrator.
    """
    with changing_access():
        role = _locked(role, precondition)
        powers_of(actor).require_roles([role])
        if role.built_in:
            raise ApiError(ErrorCode.BUILT_IN_ROLE)
        if role.children.exists():
            raise ApiError(ErrorCode.ROLE_IN_USE)
        if RouteRule.objects.filter(role=role).exists():  # deleted along with the role, it would open the route
            raise ApiError(ErrorCode.ROLE_IN_USE, _("A route rule asks for this role."))
        members = role.user_set.order_by("username").values_list("username", flat=True)
        facts = {**_facts(role), "member_count": members.count(), "members": list(members[:MEMBERS_RECORDED])}
        changes = {field: (value, None) for field, value in facts.items()}
        audit.record(Action.ROLE_DELETED, actor=actor, target=role, changes=changes, reason=reason)
        role.delete()


def route_rule_save(
    *,
    actor: User | None,
    method: str,
    route: str,
    permission: str,
    role: Role | None,
    reason: str,
    rule: RouteRule | None = None,
) -> RouteRule:
    """Make a rule, or change `rule`. It asks for a permission (or "") or a role (or None).

    Raises ValidationError, which names the fields; ApiError: permission_denied to loosen what keeps the actor out.
    """
    with changing_access():
        _check_rule(method, route, permission, role, reason, rule)
        before = _rule_facts(_stored(actor, rule) if rule else RouteRule())
        saved = rule or RouteRule()
        saved.method, saved.route, saved.permission, saved.role, saved.reason = method, route, permission, role, reason
        saved.save()
        action = Action.ROUTE_RULE_CHANGED if rule else Action.ROUTE_RULE_CREATED
        changes = audit.changes_between(before, _rule_facts(saved))
        audit.record(action, actor=actor, target=saved, changes=changes, reason=reason)
    return saved


def route_rule_delete(*, actor: User | None, rule: RouteRule, reason: str = "") -> None:
    """Delete a rule. Raises ApiError: permission_denied if it keeps the actor out."""
    with changing_access():
        rule = _stored(actor, rule)
        changes = {field: (value, "") for field, value in _rule_facts(rule).items()}
        audit.record(Action.ROUTE_RULE_DELETED, actor=actor, target=rule, changes=changes, reason=reason)
        rule.delete()


def _locked(role: Role, precondition: Callable[[], None] | None) -> Role:
    """Return the role as it is now; `changing_access` keeps all others from it."""
    found = Role.objects.select_related("parent").filter(pk=role.pk).first()
    if found is None:
        raise Http404
    if precondition:
        precondition()
    return found


def _apply(role: Role, changes: Mapping[str, Any]) -> None:
    if "name" in changes:
        role.name = _name(changes["name"], role)
    if "parent" in changes:
        role.parent = _parent(role, changes["parent"])
    for field in ("description", "requires_second_factor"):
        setattr(role, field, changes.get(field, getattr(role, field)))
    role.save()
    if "permissions" in changes:
        role.permissions.set(_permissions(changes["permissions"]))


def _facts(role: Role) -> dict[str, Any]:
    """Return what can be changed of a role, as the audit record shows it."""
    return {
        "name": role.name,
        "description": role.description,
        "parent": role.parent.name if role.parent else None,
        "permissions": sorted(name_of(each) for each in role.permissions.select_related("content_type")),
        "requires_second_factor": role.requires_second_factor,
    }


def _name(name: str, role: Role | None = None) -> str:
    """Return the name in the form in which names are compared. Raises ValidationError."""
    name = User.normalize_username(name)
    if not _ROLE_NAME.fullmatch(name) or len(name) > MAX_NAME:
        raise _invalid("name", _("Use Latin letters, digits and . + - _ only, and single spaces between."), "invalid")
    others = Group.objects.exclude(pk=role.pk) if role else Group.objects.all()
    if others.alias(seen=without_look_alikes("name")).filter(seen=without_look_alikes(Value(name))).exists():
        raise _invalid("name", _("There is a role of this name already."), "unique")
    return name


def _parent(role: Role | None, parent: Role | None) -> Role | None:
    """Return the parent as it is now. Raises ValidationError if it is gone or inherits from the role itself."""
    if parent is None:
        return None
    found = Role.objects.filter(pk=parent.pk).first()
    if found is None:
        raise _invalid("parent", _("There is no such role."), "does_not_exist")
    if role is not None and role in RoleTree.read().with_parents([found.pk]):
        raise _invalid("parent", _("A role cannot inherit from itself, by way of others neither."), "cycle")
    return found


def _permissions(names: Iterable[str]) -> list[Permission]:
    wanted = set(names)
    for name in unknown_names(wanted):
        raise unknown_permission("permissions", name)
    return permissions_named(wanted)


def unknown_permission(field: str, name: str) -> exceptions.ValidationError:
    return _invalid(field, _("There is no permission “%(name)s”.") % {"name": name}, "does_not_exist")


def _check_rule(
    method: str, route: str, permission: str, role: Role | None, reason: str, rule: RouteRule | None
) -> None:
    found = [each for each in routes() if (each.method, each.name) == (method, route)]
    if not found:
        raise _invalid("route", _("There is no such route with this method."), "does_not_exist")
    if found[0].required == Access.PUBLIC:
        raise _invalid("route", _("This route is open to everybody: nobody is known there."), "public")
    if bool(permission) == bool(role):
        raise _invalid("permission", _("Name either a permission or a role."), "invalid")
    for name in unknown_names([permission] if permission else []):
        raise unknown_permission("permission", name)
    if not reason.strip():
        raise _invalid("reason", _("Say why."), "blank")
    if RouteRule.objects.filter(method=method, route=route).exclude(pk=rule.pk if rule else 0).exists():
        raise _invalid("route", _("There is a rule for this route already."), "unique")


def _stored(actor: User | None, rule: RouteRule) -> RouteRule:
    """Return the rule as it is now, if the actor may loosen it. Raises Http404, ApiError (permission_denied)."""
    found = RouteRule.objects.select_related("role").filter(pk=rule.pk).first()
    if found is None:
        raise Http404
    powers_of(actor).require_rule(found)
    return found


def _rule_facts(rule: RouteRule) -> dict[str, Any]:
    return {
        "method": rule.method,
        "route": rule.route,
        "permission": rule.permission,
        "role": rule.role.name if rule.role else "",
    }


def _invalid(field: str, sentence: str, code: str) -> exceptions.ValidationError:
    return exceptions.ValidationError({field: [exceptions.ErrorDetail(sentence, code)]})
