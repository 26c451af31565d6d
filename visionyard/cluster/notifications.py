"""Telling people how a run ended: a webhook, Slack, e-mail; a notification that fails is told and ends nothing.

Addresses and credentials come from the environment, which a Secret fills. An error names a host, never the address: a
Slack webhook's path is its password.
"""

import json
import smtplib
import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from email.message import EmailMessage
from typing import Literal, Protocol
from urllib.parse import urlsplit

from urllib3.exceptions import HTTPError

from visionyard.cluster.outcome import Outcome
from visionyard.cluster.sending import READ_TIMEOUT_S, RefusedError, authorities, send
from visionyard.errors import ConfigError
from visionyard.storage.base import connection_fault, with_retries

PREFIX = "VISIONYARD_NOTIFY_"
_TLS = ("starttls", "tls", "none")
# Slack refuses a longer section.
_SLACK_CHARACTERS = 2900


class Channel(Protocol):
    """A way to tell an outcome."""

    @property
    def name(self) -> str:
        """What a message calls it; holds no secret."""

    def send(self, outcome: Outcome) -> None:
        """Tell it; any fault is raised."""


@dataclass(frozen=True)
class Webhook:
    """A JSON body by POST: ours, or one that Slack understands.

    Attributes:
        url: Where to; secret.
        token: Sent as a bearer token when there is one; secret.
        is_slack: Whether the body is Slack's.
    """

    url: str = field(repr=False)
    token: str = field(default="", repr=False)
    is_slack: bool = False

    @property
    def name(self) -> str:
        """See Channel."""
        return f"{'Slack' if self.is_slack else 'webhook'} at {urlsplit(self.url).hostname}"

    def send(self, outcome: Outcome) -> None:
        """See Channel."""
        body = slack_message(outcome) if self.is_slack else outcome.to_json()
        headers = {"Content-Type": "application/json"}
        if self.token:
            headers["Authorization"] = f"Bearer {self.token}"
        send("POST", self.url, json.dumps(body, default=str).encode(), headers)


@dataclass(frozen=True)
class Email:
    """A mail by SMTP.

    Attributes:
        to: Addresses.
        sender: Address.
        host: The mail server.
        port: Its port.
        tls: `starttls`, `tls` from the first byte, or `none`.
        user: Empty: no login.
        password: Secret.
    """

    to: tuple[str, ...]
    sender: str
    host: str
    port: int
    tls: Literal["starttls", "tls", "none"] = "starttls"
    user: str = ""
    password: str = field(default="", repr=False)

    @property
    def name(self) -> str:
        """See Channel."""
        return f"mail server {self.host}:{self.port}"

    def send(self, outcome: Outcome) -> None:
        """See Channel."""
        message = EmailMessage()
        message["From"], message["To"] = self.sender, ", ".join(self.to)
        message["Subject"] = " ".join(f"[visionyard] {outcome.title}".split())
        message.set_content("\n".join([outcome.title, "", *outcome.lines()]) + "\n")
        with_retries(lambda: self._deliver(message), _is_transient_fault_of_mail)

    def _deliver(self, message: EmailMessage) -> None:
        context = ssl.create_default_context(cafile=authorities())
        if self.tls == "tls":
            server: smtplib.SMTP = smtplib.SMTP_SSL(self.host, self.port, timeout=READ_TIMEOUT_S, context=context)
        else:
            server = smtplib.SMTP(self.host, self.port, timeout=READ_TIMEOUT_S)
        with server:
            if self.tls == "starttls":
                server.starttls(context=context)
            if self.user:
                server.login(self.user, self.password)
            server.send_message(message)


def slack_message(outcome: Outcome) -> dict[str, object]:
    """Return a body for Slack's incoming webhooks: a line for the notification and two blocks for the channel."""
    mark = ":white_check_mark:" if outcome.status == "done" else ":x:"
    text = "\n".join(_slack_text(line) for line in outcome.lines())
    if len(text) > _SLACK_CHARACTERS:
        text = text[:_SLACK_CHARACTERS] + " ..."
    sections = [f"{mark} *{_slack_text(outcome.title)}*", *([text] if text else [])]
    return {
        "text": outcome.title,
        "blocks": [{"type": "section", "text": {"type": "mrkdwn", "text": section}} for section in sections],
    }


def _slack_text(text: str) -> str:
    # Slack's own three; otherwise a file name such as <!channel> would call everybody.
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def channels_from(environment: Mapping[str, str]) -> list[Channel]:
    """Return the channels that an environment describes; none when it says nothing.

    Raises:
        ConfigError: A value is wrong; it lists all mistakes.
    """
    values = {name.removeprefix(PREFIX): text.strip() for name, text in environment.items() if name.startswith(PREFIX)}
    problems = [
        f"{PREFIX}{name}: expected an http:// or https:// address"
        for name in ("WEBHOOK", "SLACK")
        if values.get(name) and not values[name].startswith(("http://", "https://"))
    ]
    channels: list[Channel] = []
    if url := values.get("WEBHOOK"):
        channels.append(Webhook(url, values.get("WEBHOOK_TOKEN", "")))
    if url := values.get("SLACK"):
        channels.append(Webhook(url, is_slack=True))
    if values.get("EMAIL_TO"):
        channels += _email(values, problems)
    if problems:
        raise ConfigError(problems)
    return channels


def _email(values: Mapping[str, str], problems: list[str]) -> list[Channel]:
    tls, port = values.get("SMTP_TLS", "starttls"), values.get("SMTP_PORT", "")
    found = len(problems)
    problems += [
        f"{PREFIX}{name}: missing; a mail needs it" for name in ("EMAIL_FROM", "SMTP_HOST") if not values.get(name)
    ]
    if tls not in _TLS:
        problems.append(f"{PREFIX}SMTP_TLS = {tls!r}: expected {', '.join(_TLS)}")
    if port and not (port.isdigit() and 0 < int(port) < 65536):
        problems.append(f"{PREFIX}SMTP_PORT = {port!r}: expected a port, 1 to 65535")
    if tls == "none" and values.get("SMTP_USER"):
        problems.append(f"{PREFIX}SMTP_TLS = 'none': a password would travel in the clear; use starttls or tls")
    if len(problems) > found:
        return []
    return [
        Email(
            to=tuple(part.strip() for part in values["EMAIL_TO"].split(",") if part.strip()),
            sender=values["EMAIL_FROM"],
            host=values["SMTP_HOST"],
            port=int(port or (465 if tls == "tls" else 587)),
            tls=tls,  # type: ignore[arg-type]  # checked above
            user=values.get("SMTP_USER", ""),
            password=values.get("SMTP_PASSWORD", ""),
        )
    ]


def notify(outcome: Outcome, channels: list[Channel]) -> list[str]:
    """Tell an outcome by every channel.

    Args:
        outcome: How a run ended.
        channels: Each is tried, whatever became of the ones before.

    Returns:
        A sentence for each that failed.
    """
    problems = []
    for channel in channels:
        try:
            channel.send(outcome)
        except (RefusedError, HTTPError, OSError, smtplib.SMTPException) as error:
            problems.append(f"not told by {channel.name}: {_reason(error)}")
    return problems


def _is_transient_fault_of_mail(error: BaseException) -> bool:
    if isinstance(error, smtplib.SMTPResponseException):
        return 400 <= error.smtp_code < 500
    return isinstance(error, (smtplib.SMTPServerDisconnected, ConnectionError, TimeoutError))


def _reason(error: Exception) -> str:
    """Return what happened in words of our own: those of a library may hold an address or a password."""
    if isinstance(error, RefusedError):
        return f"{error}; check the address and the token"
    if isinstance(error, HTTPError):
        return connection_fault(error)
    if isinstance(error, smtplib.SMTPAuthenticationError):
        return f"the login was refused ({error.smtp_code}); check {PREFIX}SMTP_USER and {PREFIX}SMTP_PASSWORD"
    if isinstance(error, smtplib.SMTPResponseException):
        return f"it answered with code {error.smtp_code}; check the addresses of sender and receivers"
    if isinstance(error, smtplib.SMTPRecipientsRefused):
        return f"it refuses {', '.join(error.recipients)}; check the addresses"
    if isinstance(error, ssl.SSLError):
        return "the secure connection failed; name its certificate authority in SSL_CERT_FILE, or check SMTP_TLS"
    return f"{type(error).__name__}; check the address, the port and the network"
