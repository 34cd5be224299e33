"""The conversation that a task sends: an example up to its last question, whether or not the answer came with it."""

from eyespot.contracts.message import Example, Message


def asked(example: Example) -> tuple[Message, ...]:
    """The messages without the answers at their end."""
    messages = example.messages
    while messages and messages[-1].role == "assistant":
        messages = messages[:-1]
    return messages
