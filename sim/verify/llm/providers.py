# SPDX-License-Identifier: Apache-2.0
"""Which endpoints there are, and how one is asked: OpenAI's protocol, by the library ``openai``."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from designs import catalogue
from designs.errors import DesignError
from sim.errors import ToolError

__all__ = ["Completion", "Endpoint", "Oversized", "Transport", "connect", "parse_provider"]

MAX_BYTES = 1 << 20
"""Of a whole answer; a longer one is given up while it is read."""

Message = Mapping[str, str]


@dataclass(frozen=True)
class Endpoint:
    """Where a provider listens.

    Parameters
    ----------
    url : None for the library's own default.
    key : name of the environment variable with the key, or None if it needs none.
    """

    url: str | None
    key: str | None


_PROVIDERS = {
    "openai": Endpoint(None, "OPENAI_API_KEY"),
    "anthropic": Endpoint("https://api.anthropic.com/v1/", "ANTHROPIC_API_KEY"),
    "local": Endpoint("http://127.0.0.1:8000/v1", None),
}


@dataclass(frozen=True)
class Completion:
    """An answer, and what it cost in tokens."""

    text: str
    prompt_tokens: int
    completion_tokens: int


class Oversized(Exception):
    """An answer that is no answer: too long, not UTF-8, or not of the protocol."""


class Transport(Protocol):
    """Asks a model once."""

    def complete(
        self, messages: Sequence[Message], schema: Mapping[str, Any], *, tokens: int, seconds: float
    ) -> Completion:
        """Return the answer.

        Raises
        ------
        Oversized
            If there is an answer that nobody should read.
        ToolError
            If there is none.
        """
        ...


def parse_provider(text: str) -> tuple[str, str] | None:
    """``PROVIDER:MODEL`` in parts; None for ``offline``.

    Raises
    ------
    DesignError
        If there is no such provider, or no model.
    """
    if text == "offline":
        return None
    provider, _, model = text.partition(":")
    if provider not in _PROVIDERS:
        raise DesignError(catalogue.unknown("provider", provider, ["offline", *_PROVIDERS]))
    if not model:
        raise DesignError(f"--llm {text} names no model; give {provider}:MODEL")
    return provider, model


def connect(provider: str, model: str, url: str | None = None) -> Transport:
    """A connection to a provider; its key is in the environment, never anywhere else.

    Parameters
    ----------
    url : of another server of the same protocol.

    Raises
    ------
    DesignError
        If the provider's key is not set.
    ToolError
        If the library is not installed.
    """
    endpoint = _PROVIDERS[provider]
    key = os.environ.get(endpoint.key, "") if endpoint.key else "none"
    if not key:
        raise DesignError(
            f"provider {provider} needs its key in the environment variable {endpoint.key}"
        )
    try:
        import openai
    except ModuleNotFoundError:
        raise ToolError("--llm needs the package openai: pip install 'hwgen[llm]'") from None
    return _OpenAI(
        openai.OpenAI(api_key=key, base_url=url or endpoint.url, max_retries=2), model, provider
    )


class _OpenAI:
    def __init__(self, client: Any, model: str, provider: str) -> None:
        self._client, self._model, self._provider = client, model, provider
        self._structured = True

    def complete(
        self, messages: Sequence[Message], schema: Mapping[str, Any], *, tokens: int, seconds: float
    ) -> Completion:
        import openai

        try:
            if self._structured:
                try:
                    return self._ask(messages, schema, tokens, seconds)
                except openai.BadRequestError:
                    self._structured = False  # a server that does not know response_format
            return self._ask(messages, None, tokens, seconds)
        except openai.APIStatusError as error:
            raise ToolError(
                f"provider {self._provider} answered {error.status_code}: {_words(error)}"
            ) from None
        except openai.APIConnectionError as error:
            raise ToolError(
                f"provider {self._provider} is not reachable: {_words(error)}"
            ) from None
        except openai.OpenAIError as error:
            raise ToolError(f"provider {self._provider} failed: {_words(error)}") from None

    def _ask(
        self,
        messages: Sequence[Message],
        schema: Mapping[str, Any] | None,
        tokens: int,
        seconds: float,
    ) -> Completion:
        options: dict[str, Any] = {}
        if schema is not None:
            options["response_format"] = {
                "type": "json_schema",
                "json_schema": {"name": "proposals", "schema": dict(schema), "strict": False},
            }
        asked = self._client.chat.completions.with_streaming_response.create(
            model=self._model, messages=list(messages), max_tokens=tokens, temperature=0, timeout=seconds,
            **options,
        )  # fmt: skip
        body = b""
        with asked as response:
            for part in response.iter_bytes():
                body += part
                if len(body) > MAX_BYTES:
                    raise Oversized(f"an answer of more than {MAX_BYTES:,} bytes")
        return _read(body)


def _read(body: bytes) -> Completion:
    try:
        answer = json.loads(body.decode("utf-8", errors="strict"))
        text = answer["choices"][0]["message"]["content"]
        usage = answer.get("usage") or {}
        tokens = int(usage.get("prompt_tokens") or 0), int(usage.get("completion_tokens") or 0)
    except UnicodeDecodeError:
        raise Oversized("an answer that is not UTF-8") from None
    except (ValueError, KeyError, IndexError, TypeError, AttributeError, RecursionError):
        raise Oversized("an answer that is not of the protocol") from None
    if not isinstance(text, str):
        raise Oversized("an answer without text")
    return Completion(text, *tokens)


def _words(error: Exception) -> str:
    return " ".join(str(error).split())[:160]
