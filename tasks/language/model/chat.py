"""Conversations as token ids: the tokenizer's chat template where it has one, else lines that name the speaker."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tasks.errors import TaskError
from tasks.language.data.sft.conversations import Conversation, Message
from tasks.language.model.bases import LanguageModel
from tasks.language.model.likelihood import Row


def completion_rows(base: LanguageModel, conversation: Conversation) -> list[Row]:
    """One row per completion: all that comes before it, and the completion with its end.

    Raises TaskError if the tokenizer's template refuses the conversation.
    """
    rows = _chat_row if conversation.is_chat else _plain_row
    return [rows(base, conversation, index) for index in conversation.completions]


def prompt_ids(base: LanguageModel, prompt: str, is_chat: bool | None) -> list[int]:
    """Token ids of a prompt that a user typed, before its completion; None: a conversation if there is a template."""
    is_chat = has_template(base) if is_chat is None else is_chat
    conversation = Conversation("the prompt", (Message("user", prompt), Message("assistant", "a")), (1,), is_chat)
    return completion_rows(base, conversation)[0][0]


def end_ids(base: LanguageModel, is_chat: bool | None) -> list[int]:
    """The tokens that end a completion: the tokenizer's, and in a chat the one that the template puts after it."""
    ends = {base.tokenizer.eos_token_id}
    if is_chat is not False and has_template(base):
        (row,) = completion_rows(base, Conversation("", (Message("user", "a"), Message("assistant", "b")), (1,), True))
        ends.add(row[1][-1])
    return sorted(ends)


def has_template(base: LanguageModel) -> bool:
    return getattr(base.tokenizer, "chat_template", None) is not None


def _plain_row(base: LanguageModel, conversation: Conversation, index: int) -> Row:
    """The prompt, a line break unless either side has white space, the completion and the end of text."""
    prompt, completion = (message.content for message in conversation.messages)
    separator = "" if prompt[-1:].isspace() or completion[:1].isspace() else "\n"
    return base.prompt_ids(prompt + separator), [*base.text_ids(completion), base.tokenizer.eos_token_id]


def _chat_row(base: LanguageModel, conversation: Conversation, index: int) -> Row:
    before, answer = conversation.messages[:index], conversation.messages[index]
    if not has_template(base):
        lines = "".join(f"{message.role.capitalize()}: {message.content}\n" for message in before)
        # the space belongs to the answer's first token, as in running text
        completion = [*base.text_ids(f" {answer.content}"), base.tokenizer.eos_token_id]
        return base.prompt_ids(f"{lines}Assistant:"), completion
    prompt = _rendered(base, conversation, before, add_generation_prompt=True)
    whole = _rendered(base, conversation, [*before, answer])
    if not whole.startswith(prompt):
        raise TaskError(
            f"'{base.name}': its chat template writes another text before an answer than before an open one, so that "
            "the answer cannot be separated from its prompt; use data with prompt and completion, or another base"
        )
    # the template writes its special tokens itself
    return base.text_ids(prompt), _ended(base, base.text_ids(whole.removeprefix(prompt)))


def _rendered(base: LanguageModel, conversation: Conversation, messages: Sequence[Message], **options: Any) -> str:
    from jinja2 import TemplateError

    rows = [message._asdict() for message in messages]
    try:
        return base.tokenizer.apply_chat_template(rows, tokenize=False, **options)
    except (TemplateError, ValueError, TypeError) as refused:
        raise TaskError(
            f"--task.data, {conversation.place}: the chat template of '{base.name}' refuses this conversation "
            f"({refused}): correct its roles and their order"
        ) from None


def _ended(base: LanguageModel, ids: list[int]) -> list[int]:
    """A completion up to its last special token, with an end of text if the template puts none."""
    special = set(base.tokenizer.all_special_ids)
    last = next((i for i in reversed(range(len(ids))) if ids[i] in special), None)
    return [*ids, base.tokenizer.eos_token_id] if last is None else ids[: last + 1]
