"""Where webhooks may be sent: valid addresses, and networks that no subscription may reach.

Without these checks, a user who may add a subscription could make this server call services of its own network. A name
is checked when the connection is made, and for the address that is connected to: a name may mean another one each time.
"""

from __future__ import annotations

import ipaddress
import re
from urllib.parse import SplitResult, urlsplit

from django.core.exceptions import ValidationError

from reportqueue.conf import conf

_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")
_LOCAL_NAT64 = ipaddress.IPv6Network("64:ff9b:1::/48")
_COMPATIBLE = ipaddress.IPv6Network("::/96")
_PRINTED = re.compile(r"[!-\[\]-~]+")
"""ASCII without spaces, control characters and the backslash, which some programs read as a slash."""
Address = ipaddress.IPv4Address | ipaddress.IPv6Address


class Refused(ValueError):
    """An address may not be connected to; `str()` says why."""


def validate_url(url: str) -> None:
    """Refuse what is no address of a webhook, or is in a network that may not be reached."""
    try:
        parts = split(url)
    except ValueError as error:
        raise ValidationError(str(error), code="address") from None
    if parts.scheme == "http" and not conf().webhook_allow_http:
        text = (
            "Must begin with https://. The setting WEBHOOK_ALLOW_HTTP allows http://, which anybody on the way reads."
        )
        raise ValidationError(text, code="http")
    try:
        literal = ipaddress.ip_address(parts.hostname or "")
    except ValueError:
        return  # a name: it is looked up, and what it means is checked, at each connection
    try:
        require_allowed(literal, parts.hostname or "")
    except Refused as error:
        raise ValidationError(str(error), code="network") from None


def split(url: str) -> SplitResult:
    """The parts of an address. Raises `ValueError` naming what is wrong with it."""
    if not _PRINTED.fullmatch(url):
        raise ValueError("Must be an address such as https://example.com/hook, in ASCII and without spaces.")
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise ValueError(f"This is no address: {error}.") from None
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError("Must be an address such as https://example.com/hook.")
    if "@" in parts.netloc:
        raise ValueError("Must not have a user or a password: the signature says who sends it.")
    if "#" in url:
        raise ValueError("Must not have a part after #: it would not be sent.")
    if port == 0:
        raise ValueError("The port 0 is none.")
    return parts


def origin(url: str) -> str:
    """The part of an address that is no secret, such as https://example.com:8443; it need not be valid."""
    return re.match(r"[^/]*/*[^/?#]*", url)[0]  # type: ignore[index]  # it matches everything


def require_allowed(address: Address, host: str) -> None:
    """Refuse an address within the networks of machines, unless the settings allow it. Raises `Refused`."""
    meant = _meant(address)
    if (private := next((one for one in meant if not _is_public(one)), None)) is None:
        return
    for allowed in conf().webhook_allowed_networks:
        network = as_network(allowed)
        if host.lower() == allowed.lower() or (
            network is not None and all(one.version == network.version and one in network for one in meant)
        ):
            return
    raise Refused(
        f"{private} is not a public address. If it is right, add its network, or {host}, to the setting "
        "WEBHOOK_ALLOWED_NETWORKS."
    )


def as_network(text: str) -> ipaddress.IPv4Network | ipaddress.IPv6Network | None:
    """The network that a text names; None for a text that names a host."""
    try:
        return ipaddress.ip_network(text)
    except ValueError:
        return None


def _meant(address: Address) -> list[Address]:
    """The addresses that a packet may reach: of an IPv6 address, also the IPv4 address inside it."""
    if isinstance(address, ipaddress.IPv4Address):
        return [address]
    if address.ipv4_mapped is not None:
        return [address.ipv4_mapped]
    inside: list[Address] = [address]
    if address.sixtofour is not None:
        inside.append(address.sixtofour)
    if address.teredo is not None:
        inside += address.teredo
    if address in _NAT64 or (address in _COMPATIBLE and not (address.is_loopback or address.is_unspecified)):
        inside.append(ipaddress.IPv4Address(int(address) & 0xFFFFFFFF))
    return inside


def _is_public(address: Address) -> bool:
    if isinstance(address, ipaddress.IPv6Address) and (address.is_site_local or address in _LOCAL_NAT64):
        return False
    if isinstance(address, ipaddress.IPv6Address) and address in _NAT64:
        return True  # as public as the address inside it
    return address.is_global and not (
        address.is_multicast
        or address.is_private
        or address.is_loopback
        or address.is_link_local
        or address.is_reserved
        or address.is_unspecified
    )
