"""API tokens in the admin. A token is shown once, when it is made; afterwards it can be renamed and revoked."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from django import forms
from django.contrib import admin, messages
from django.contrib.auth import get_user_model
from django.core.exceptions import PermissionDenied, ValidationError
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseNotAllowed, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import path
from django.utils.html import format_html_join
from django.utils.translation import gettext, ngettext
from django.utils.translation import gettext_lazy as _

from reportqueue import api_users, bounds, credentials, tokens
from reportqueue.admin import formats, search
from reportqueue.admin.changelists import ListAdmin
from reportqueue.admin.filters import TokenStateFilter
from reportqueue.admin.shown_once import show_once
from reportqueue.conf import own_tokens_refused
from reportqueue.errors import RowBusy
from reportqueue.models import ApiToken
from reportqueue.models.audit import Kind
from reportqueue.models.token import SCOPES

if TYPE_CHECKING:
    TokenModelForm = forms.ModelForm[ApiToken]
else:
    TokenModelForm = forms.ModelForm

MAX_AT_ONCE = 1_000
"""Tokens that one action revokes, in one transaction."""


class TokenForm(TokenModelForm):
    """A new token. A person without the permission to change users makes own tokens only: a token acts as its user."""

    user_name = forms.CharField(label=_("User"), max_length=bounds.MAX_LOGIN_LENGTH, validators=[bounds.validate_text])
    scopes = forms.MultipleChoiceField(
        choices=[(scope, scope) for scope in SCOPES],
        required=False,
        widget=forms.CheckboxSelectMultiple,
        help_text=ApiToken._meta.get_field("scopes").help_text,
    )
    person: Any = None
    """The user who fills in the form."""
    for_others: bool = False

    class Meta:
        model = ApiToken
        fields = ["name", "scopes", "expires_at"]
        labels = {"expires_at": _("Expires (UTC)")}

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        field = self.fields["user_name"]
        field.initial, field.disabled = self.person.get_username(), not self.for_others

    def clean(self) -> dict[str, Any] | None:
        """Refuse a token that the API would not accept."""
        if refusal := own_tokens_refused():
            raise ValidationError(refusal)
        return super().clean()

    def clean_user_name(self) -> str:
        """The name of an active user, who becomes the token's."""
        name = str(self.cleaned_data["user_name"])
        # Not by the name: two names may look up the same user.
        user = api_users.named(name) if self.for_others else self.person
        if user is None:
            raise ValidationError(gettext("There is no such user."))
        if not user.is_active:
            raise ValidationError(gettext("This user is not active: a token would be refused."))
        self.instance.user = user
        return name


@admin.register(ApiToken)
class ApiTokenAdmin(ListAdmin):
    """The tokens of all users, without anything that a call could be made with."""

    list_display = ["name_and_beginning", "user", "may_use", "state", "created", "expires", "last_used"]
    list_filter = [TokenStateFilter]
    list_select_related = ["user"]
    sortable_by = ["name_and_beginning", "created", "expires", "last_used"]
    audited = Kind.TOKEN
    find = search.find_tokens
    search_fields = ["name"]  # For the box to be there; what may be typed is `find`'s.
    search_help_text = _("A part of the token's name or of its user's, or the beginning of the token.")
    actions = ["revoke_selected"]
    readonly_fields = ["user", "public_part", "may_use", "state", "created", "expires", "last_used"]

    def get_form(self, request: HttpRequest, obj: ApiToken | None = None, change: bool = False, **kwargs: Any) -> Any:
        """A new token's form knows who fills it in; of another token only the name can be changed."""
        if obj is not None:
            return super().get_form(request, obj, change, **kwargs)
        form: Any = super().get_form(request, obj, change, form=TokenForm, **kwargs)
        form.person, form.for_others = request.user, may_choose_user(request)
        return form

    def get_fieldsets(self, request: HttpRequest, obj: ApiToken | None = None) -> Any:
        """What a new token needs, or what can be seen of a token."""
        if obj is None:
            return [(None, {"fields": ["user_name", "name", "scopes", "expires_at"]})]
        return [(None, {"fields": ["name", *self.readonly_fields]})]

    def get_urls(self) -> list[Any]:
        """Django's, and the address of the page that revokes one token."""
        view = self.admin_site.admin_view(self.revoke_view)
        return [path("<int:pk>/revoke/", view, name="reportqueue_apitoken_revoke"), *super().get_urls()]

    def render_change_form(self, request: HttpRequest, context: Any, *args: Any, **kwargs: Any) -> HttpResponse:
        """With a link to that page, if the token can be revoked."""
        token = kwargs.get("obj")
        if token is not None and token.revoked_at is None and self.has_change_permission(request, token):
            context["links"] = [(gettext("Revoke…"), self.address("revoke", token.pk))]
        return super().render_change_form(request, context, *args, **kwargs)

    def save_model(self, request: HttpRequest, obj: ApiToken, form: Any, change: bool) -> None:
        """Save, and show a new token once."""
        if change:
            super().save_model(request, obj, form, change)
            return
        key = credentials.new_key()
        tokens.store(obj, key)
        show_once(request, obj, key)

    @admin.action(description=_("Revoke the selected tokens"), permissions=["change"])
    def revoke_selected(self, request: HttpRequest, selected: QuerySet[ApiToken]) -> HttpResponse | None:
        """Ask, then revoke all of them or none."""
        confirmed = request.POST.get("confirmed")
        if confirmed is None:
            return self._ask(request, self.selected_pks(request, selected, MAX_AT_ONCE))
        self._revoke(
            request, [pk for text in confirmed.split(",") if (pk := bounds.as_id(text)) is not None][:MAX_AT_ONCE]
        )
        return None

    def revoke_view(self, request: HttpRequest, pk: int) -> HttpResponse:
        """GET: ask. POST: revoke the token, and show it again."""
        if request.method not in ("GET", "HEAD", "POST"):
            return HttpResponseNotAllowed(["GET", "HEAD", "POST"])
        if not self.has_change_permission(request):
            raise PermissionDenied
        if request.method != "POST":
            return self._ask(request, [pk])
        try:
            self._revoke(request, [pk])
        except RowBusy as error:
            return self._said(request, error)
        return HttpResponseRedirect(self.address("change", pk))

    def _ask(self, request: HttpRequest, pks: Sequence[int]) -> HttpResponse:
        context = {
            **self.admin_site.each_context(request),
            "title": ngettext("Revoke this token?", "Revoke these tokens?", len(pks)),
            "opts": self.opts,
            "media": self.media,
            "action": "revoke_selected",
            "operation": {"label": gettext("Revoke")},
            "back": self.address("changelist"),
            "lines": [
                (token, token.user, self.last_used(token))
                for token in self.get_queryset(request).filter(pk__in=pks).select_related("user")
            ],
            "first": pks[0],
            "pks": ",".join(map(str, pks)),
        }
        request.current_app = self.admin_site.name  # as Django's own admin views do
        return TemplateResponse(request, "admin/reportqueue/revoke.html", context)

    def _revoke(self, request: HttpRequest, pks: Sequence[int]) -> None:
        with self.bounded():
            revoked = tokens.revoke(pks)
            for token in revoked:
                self.log_change(request, token, "Revoked in the admin")
        if count := len(revoked):
            text = ngettext("%(count)s token revoked.", "%(count)s tokens revoked.", count)
            self.message_user(request, text % {"count": f"{count:,}"}, messages.SUCCESS)
        if count := len(pks) - len(revoked):
            text = ngettext(
                "%(count)s token was revoked or deleted already.",
                "%(count)s tokens were revoked or deleted already.",
                count,
            )
            self.message_user(request, text % {"count": f"{count:,}"}, messages.WARNING)

    @admin.display(description=_("name and beginning"), ordering="name")
    def name_and_beginning(self, token: ApiToken) -> str:
        """The name, and below it the beginning of the token."""
        return formats.two_lines(token.name, self.public_part(token))

    @admin.display(description=_("begins with"))
    def public_part(self, token: ApiToken) -> str:
        """The beginning of the token, by which it is known."""
        return f"{credentials.PREFIX}{token.identifier}"

    @admin.display(description=_("scopes"))
    def may_use(self, token: ApiToken) -> str:
        """The permissions that it may use."""
        if not token.scopes:
            return gettext("all of the user's")
        return format_html_join("", '<span class="rq-line">{}</span>', ((scope,) for scope in token.scopes))

    @admin.display(description=_("state"))
    def state(self, token: Any) -> str:
        """Whether calls with it are let in, and if not, why."""
        if token.revoked_at is not None:
            return formats.two_lines(gettext("revoked"), formats.instant_text(token.revoked_at, minutes=True))
        if token.expires_at is not None and token.expires_at <= token.now:
            return gettext("expired")
        return gettext("active") if token.user.is_active else gettext("the user is not active")

    @admin.display(description=_("created"), ordering="created_at")
    def created(self, token: ApiToken) -> str:
        """When it was made."""
        return formats.instant(token.created_at, minutes=True)

    @admin.display(description=_("expires"), ordering="expires_at")
    def expires(self, token: ApiToken) -> str:
        """From when on it is refused."""
        return formats.instant(token.expires_at, minutes=True) if token.expires_at else gettext("never")

    @admin.display(description=_("last used"), ordering="last_used_at")
    def last_used(self, token: ApiToken) -> str:
        """To the minute: it is written at most once a minute."""
        return formats.instant(token.last_used_at, minutes=True) if token.last_used_at else gettext("never")


def may_choose_user(request: HttpRequest) -> bool:
    """Whether this person may make tokens for others, as may everybody with the permission to change users."""
    opts = get_user_model()._meta
    return bool(request.user.has_perm(f"{opts.app_label}.change_{opts.model_name}"))
