"""The user model."""

from __future__ import annotations

from uuid import uuid4

from django.contrib.auth.base_user import AbstractBaseUser, BaseUserManager
from django.contrib.auth.models import PermissionsMixin
from django.db import models


class EmailUser(AbstractBaseUser, PermissionsMixin):
    """A person or a program; there is no field `username`."""

    id = models.UUIDField(primary_key=True, default=uuid4)
    email = models.EmailField(max_length=254, unique=True)
    team = models.CharField(max_length=50, blank=True)
    is_active = models.BooleanField(default=True)
    is_staff = models.BooleanField(default=False)

    objects = BaseUserManager["EmailUser"]()
    USERNAME_FIELD = "email"

    def __str__(self) -> str:
        return self.email
