"""Prompts with completions and conversations, in the forms that instruction sets have.

| columns | from |
| --- | --- |
| `prompt`, `completion` | OpenAI's and TRL's files; both may also be lists of messages |
| `messages`, `conversations`, `conversation` | chat files: `role` and `content`, or ShareGPT's `from` and `value` |
| `instruction`, `input` or `context`, `output` or `response` | Alpaca, Dolly |
| `question` or `query`, `answer` or `response` | GSM8K, MetaMathQA |
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from tasks.bad_items import BadItem, BadItems, first_names
from tasks.language.data.kept_apart import normalised

MESSAGES = ("messages", "conversations", "conversation")
PROMPTS = ("prompt", "instruction", "question", "query", "problem")
CONTEXTS = ("input", "context")  # beside an instruction
COMPLETIONS = ("completion", "response", "output", "answer", "solution")
ROLES = {"human": "user", "gpt": "assistant", "bot": "assistant", "model": "assistant", "developer": "system"}
KNOWN_ROLES = ("system", "user", "assistant", "tool")
EXPECTED = (
    'expected {"prompt": "...", "completion": "..."} or {"messages": [{"role": "user", "content": "..."}, '
    '{"role": "assistant", "content": "..."}]}'
)


class Message(NamedTuple):
    role: str
    content: str


@dataclass(frozen=True)
class Conversation:
    """Messages, and the indices of those that are completions, on which the loss is taken.

    `place` is its place in the file ("line 5"). Without `is_chat` the messages are a prompt and its completion.
    """

    place: str
    messages: tuple[Message, ...]
    completions: tuple[int, ...]
    is_chat: bool

    @property
    def prompt(self) -> str:
        """Everything before the first completion."""
        return "\n".join(message.content for message in self.messages[: self.completions[0]])

    @property
    def completion(self) -> str:
        """The last completion, which generated texts are compared with."""
        return self.messages[self.completions[-1]].content


class Unreadable(ValueError):
    """A row that is not a conversation: what is wrong with it."""


def read_conversations(rows: Iterable[tuple[str, Mapping[str, Any]]], source: str, bad: BadItems) -> list[Conversation]:
    """The conversations of rows, each with its place. Raises BadItem for an unusable row under the policy "fail"."""
    conversations = []
    for place, row in rows:
        with bad.skipped():
            try:
                conversations.append(conversation_of(place, row))
            except Unreadable as wrong:
                sentence = f"--task.data '{source}', {place}, {wrong}: {EXPECTED}; correct that row"
                raise BadItem("unusable rows", f"{place}: {wrong}", sentence) from None
    return conversations


def conversation_of(place: str, row: Mapping[str, Any]) -> Conversation:
    """The conversation of a row. Raises Unreadable."""
    columns = {name.strip().lower(): value for name, value in row.items()}
    if (name := _first(columns, MESSAGES)) is not None:
        messages = _messages(columns[name], name)
        return _chat(place, messages, 0)
    prompt, completion = _required(columns, "prompt", PROMPTS), _required(columns, "completion", COMPLETIONS)
    if isinstance(columns[prompt], list):
        before, after = _messages(columns[prompt], prompt), _messages(columns[completion], completion)
        return _chat(place, (*before, *after), len(before))
    context = next((columns[name] for name in CONTEXTS if columns.get(name)), None)
    parts = [_text(columns[prompt], prompt), *([] if context is None else [_text(context, "input")])]
    answer = _text(columns[completion], completion)
    return Conversation(place, (Message("user", "\n".join(parts)), Message("assistant", answer)), (1,), False)


def conversation_key(conversation: Conversation) -> str:
    """The same for conversations whose prompts differ in case and white space alone."""
    return normalised(conversation.prompt)


def _required(columns: Mapping[str, Any], what: str, names: tuple[str, ...]) -> str:
    """The first of these columns that has a value. Raises Unreadable."""
    found = _first(columns, names)
    if found is None:
        empty = next((name for name in names if name in columns), None)  # JSON's null
        no_column = f"has no {what} (its columns: {first_names(list(columns)) or 'none'})"
        no_column += "; plain text is for the task style" if "text" in columns else ""
        raise Unreadable(no_column if empty is None else f"has an empty '{empty}'")
    return found


def _first(columns: Mapping[str, Any], names: tuple[str, ...]) -> str | None:
    return next((name for name in names if columns.get(name) is not None), None)


def _text(value: Any, name: str) -> str:
    if isinstance(value, int | float) and not isinstance(value, bool):
        value = str(value)
    if not isinstance(value, str):
        raise Unreadable(f"has no text in '{name}'")
    if not value.strip():
        raise Unreadable(f"has an empty '{name}'")
    return value


def _messages(value: Any, name: str) -> tuple[Message, ...]:
    if not isinstance(value, list) or not value:
        raise Unreadable(f"has no list of messages in '{name}'")
    return tuple(_message(each, name) for each in value)


def _message(value: Any, name: str) -> Message:
    if not isinstance(value, Mapping):
        raise Unreadable(f"has a message in '{name}' that is not an object")
    role, content = value.get("role", value.get("from")), value.get("content", value.get("value"))
    role = ROLES.get(str(role).lower(), str(role).lower())
    if role not in KNOWN_ROLES:
        raise Unreadable(f"has a message of the role '{role}' (known: {', '.join(KNOWN_ROLES)})")
    return Message(role, _text(content, "content"))


def _chat(place: str, messages: tuple[Message, ...], first: int) -> Conversation:
    """A chat whose completions are the assistant's messages from the `first` on; what follows the last is cut."""
    completions = tuple(i for i, message in enumerate(messages) if message.role == "assistant" and i >= max(first, 1))
    if not completions:
        raise Unreadable("has no assistant's message after a user's")
    return Conversation(place, messages[: completions[-1] + 1], completions, True)
