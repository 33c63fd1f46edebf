"""API users: users of the project's user model that programs act as, with just the permissions that they need."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from django.contrib.auth import get_user_model
from django.contrib.auth.models import Permission
from django.core.exceptions import ValidationError

from reportqueue import bounds, database, locks
from reportqueue.errors import UserRefused
from reportqueue.patterns import Pattern

_QUEUE = ("consume_reportqueue", "view_reportqueue")
_SCHEDULES = (*_QUEUE, "view_reportschedule")
CONSUMER: dict[str, tuple[str, ...]] = {
    Pattern.CRON: _SCHEDULES,
    Pattern.ASSET: _SCHEDULES,
    Pattern.POLLING: _QUEUE,
    Pattern.QUEUE: _QUEUE,
}
"""What the sensors of each pattern need, with the repair sensors and the runs."""
ANY_CONSUMER = _SCHEDULES
PRODUCER = ("add_reportqueue",)
READER = ("view_reportqueue", "view_reportschedule")


@dataclass(frozen=True)
class Preparation:
    """What is missing for a user to have certain permissions. Nothing of it is done before `carry_out`."""

    user: Any
    """Not saved, if the user does not exist."""
    missing: list[str]
    """The permissions that the user lacks."""

    @property
    def is_new(self) -> bool:
        """Whether the user does not exist yet."""
        return bool(self.user._state.adding)

    def carry_out(self) -> None:
        """Create the user if it does not exist, and grant the permissions."""
        if self.is_new:
            self.user.save()
        if self.missing:
            self.user.user_permissions.add(*_permissions(self.missing))


def named(name: str) -> Any:
    """The user with this name, whatever field of the user model that is; None if there is none."""
    model = get_user_model()
    users = model._default_manager.using(database.users_alias())
    return users.filter(**{model.USERNAME_FIELD: model.normalize_username(name)}).first()


def prepare(name: str, codenames: Collection[str]) -> Preparation:
    """Find the user, or build a new one without a password, and find the permissions that it lacks.

    Call it in a transaction of the users' database: calls for one name take turns until their transactions end. Raises
    `UserRefused`, with the remedy.
    """
    try:
        bounds.validate_text(name)
    except ValidationError as error:
        raise UserRefused(f"The user's name: {' '.join(error.messages)}") from None
    if not 0 < len(name) <= bounds.MAX_LOGIN_LENGTH:
        raise UserRefused(f"The user's name must have 1 to {bounds.MAX_LOGIN_LENGTH:,} characters.")
    lock = f"reportqueue:api-user:{get_user_model().normalize_username(name)}"
    locks.lock_until_commit(lock, using=database.users_alias())
    user = named(name)
    if user is None:
        user = _new(name)
        missing = list(codenames)
    elif user.is_active:
        missing = [codename for codename in codenames if not user.has_perm(f"reportqueue.{codename}")]
    else:
        raise UserRefused(f"The user {name} is not active: activate the user, or choose another name.")
    if missing and not hasattr(type(user), "user_permissions"):
        text = "has no user_permissions: grant {} by your project's own means, and repeat this"
        raise UserRefused(f"The user model {user._meta.label} {text.format(', '.join(missing))}.")
    if len(_permissions(missing)) < len(missing):
        raise UserRefused("The permissions of reportqueue are not in the database: run `manage.py migrate`.")
    return Preparation(user, missing)


def _new(name: str) -> Any:
    model = get_user_model()
    user: Any = model(**{model.USERNAME_FIELD: name})
    user.set_unusable_password()
    try:
        user.full_clean()
    except ValidationError as error:
        said = "; ".join(f"{field}: {' '.join(texts)}" for field, texts in error.message_dict.items())
        raise UserRefused(
            f"The user {name[:100]} cannot be created: {said} Choose another name, or create the user yourself and "
            "repeat this."
        ) from None
    return user


def _permissions(codenames: Collection[str]) -> list[Permission]:
    permissions = Permission.objects.using(database.users_alias())
    return list(permissions.filter(content_type__app_label="reportqueue", codename__in=codenames))
