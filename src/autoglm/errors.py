"""Every error a user of autoglm can meet, typed; each names the field, the limit and the value.

Errors cross the process boundary between engine and server as :class:`autoglm.messages.ErrorInfo`;
``server/`` maps ``kind`` to an HTTP status. Nothing else in the project invents statuses or wordings.
"""

from __future__ import annotations

from typing import ClassVar


class AutoGLMError(Exception):
    """Root of all errors raised on purpose.

    Args:
        message: one sentence for a person: what is wrong and what to do.
        field: the request field, option or file at fault, in the caller's own terms.
        limit: the limit that was crossed, if there is one.
        value: the value found (shortened; never a secret and never a whole payload).
    """

    kind: ClassVar[str] = "internal_error"
    retryable: ClassVar[bool] = False

    def __init__(
        self,
        message: str,
        *,
        field: str | None = None,
        limit: str | int | float | None = None,
        value: str | int | float | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.field = field
        self.limit = limit
        self.value = value


class InvalidInputError(AutoGLMError):
    """The caller's request cannot be served as it is; sending it again will not help."""

    kind = "invalid_input"


class UnsupportedFieldError(InvalidInputError):
    """A field the API knows of but this server does not implement; refused, never ignored."""

    kind = "unsupported_field"


class PromptTooLongError(InvalidInputError):
    """The prompt alone does not leave room for one new token in the context (or in the KV pool)."""

    kind = "context_length_exceeded"


class ImageError(InvalidInputError):
    """An image that cannot be decoded, or breaks a size limit."""

    kind = "invalid_image"


class NotFoundError(InvalidInputError):
    """The named model or route does not exist here."""

    kind = "not_found"


class AuthenticationError(AutoGLMError):
    """Missing or wrong API key."""

    kind = "invalid_api_key"


class OverloadedError(AutoGLMError):
    """A bounded queue is full; retry after ``retry_after`` seconds."""

    kind = "overloaded"
    retryable = True

    def __init__(
        self,
        message: str,
        *,
        retry_after: float = 1.0,
        field: str | None = None,
        limit: str | int | float | None = None,
        value: str | int | float | None = None,
    ) -> None:
        super().__init__(message, field=field, limit=limit, value=value)
        self.retry_after = retry_after


class RequestTimeoutError(AutoGLMError):
    """The request ran past the server's time limit and was cancelled."""

    kind = "timeout"
    retryable = True


class EngineUnavailableError(AutoGLMError):
    """The engine process died or is (re)starting; the request may be sent again."""

    kind = "engine_unavailable"
    retryable = True


class RankLostError(EngineUnavailableError, RuntimeError):
    """A rank of the replica died or hangs; the replica restarts whole, and the request may be sent again."""


class RankMismatchError(AutoGLMError):
    """A rank of another world size, checkpoint or version; refused before anything is loaded."""

    kind = "rank_mismatch"


class CheckpointError(AutoGLMError):
    """A checkpoint that cannot be loaded."""

    kind = "checkpoint_error"


class CheckpointNotFoundError(CheckpointError):
    """No checkpoint at any of the places looked; the message lists them and says what to do."""

    kind = "checkpoint_not_found"


class CorruptCheckpointError(CheckpointError):
    """A shard is missing, truncated, or holds tensors of the wrong name or shape."""

    kind = "checkpoint_corrupt"


class UnsupportedCheckpointError(CheckpointError):
    """A readable checkpoint of a model this package does not implement."""

    kind = "checkpoint_unsupported"


class ActionParseError(InvalidInputError):
    """A model's output that is not one action of the client's grammar; never guessed at, never executed."""

    kind = "unparseable_action"


class ModelServerError(AutoGLMError):
    """The model's server failed, or answered with something that is not its protocol."""

    kind = "model_server_error"


class DeviceError(AutoGLMError):
    """The phone did not do what was asked of it, and it is not the action's fault."""

    kind = "device_error"


class DeviceNotFoundError(DeviceError):
    """No phone is attached, or not the one that was named."""

    kind = "device_not_found"


class DeviceUnauthorizedError(DeviceError):
    """The phone has not accepted this computer's debugging key yet."""

    kind = "device_unauthorized"


class DeviceOfflineError(DeviceError):
    """The phone was there, and does not answer or has gone."""

    kind = "device_offline"


class DeviceServerError(DeviceError):
    """The ADB server cannot be reached, or does not speak its protocol."""

    kind = "device_server_error"


class DeviceTimeoutError(DeviceError):
    """The phone took longer than its time limit."""

    kind = "device_timeout"
