"""The process in which chat templates run: a sandboxed Jinja environment that its parent can afford to lose.

A checkpoint's template is a stranger's program. The sandbox stops escape but not work: nested loops, string
multiplication or a big power run inside one C call that no Python guard interrupts. So rendering lives in a child
process that the operating system ends when its time is over and whose memory is limited. The file is run by path,
imports nothing of eyespot, and behaves as `transformers` does (transformers/utils/chat_template_utils.py).
"""

import contextlib
import datetime as dt
import faulthandler
import json
import os
import signal
import struct
import sys
from typing import Any, BinaryIO

import jinja2
from jinja2.ext import Extension, loopcontrols
from jinja2.sandbox import ImmutableSandboxedEnvironment

MEMORY_BYTES = 1 << 30
KEPT_TEMPLATES = 16


class Generation(Extension):
    """`{% generation %}…{% endgeneration %}`: the author says what the assistant wrote; the marks frame it."""

    tags = {"generation"}

    def parse(self, parser: Any) -> jinja2.nodes.Node:
        """The block as a call, so that its body's text passes through `_frame`."""
        line = next(parser.stream).lineno
        body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
        return jinja2.nodes.CallBlock(self.call_method("_frame"), [], [], body).set_lineno(line)

    def _frame(self, caller: Any) -> str:
        start, stop = self.environment.generation_marks  # type: ignore[attr-defined]
        return start + caller() + stop


class _Dict:
    """`dict(…)` without the class behind it."""

    def __call__(self, *args: Any, **kwargs: Any) -> dict:
        return dict(*args, **kwargs)

    def fromkeys(self, *args: Any) -> dict:
        return dict.fromkeys(*args)


def environment() -> ImmutableSandboxedEnvironment:
    """Jinja as chat templates expect it."""

    def raise_exception(message: str) -> None:
        raise jinja2.TemplateError(message)

    def tojson(value: Any, ensure_ascii=False, indent=None, separators=None, sort_keys=False) -> str:
        return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)

    env = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True, extensions=[Generation, loopcontrols])
    env.filters["tojson"] = tojson
    env.globals.update(
        raise_exception=raise_exception,
        strftime_now=lambda form: dt.datetime.now().strftime(form),
        dict=_Dict(),
    )
    env.globals.pop("lipsum")
    env.generation_marks = ("", "")  # type: ignore[attr-defined]
    return env


def render(template: jinja2.Template, variables: dict, limit: int) -> str:
    """The template's output, or OverflowError when it is longer than `limit`."""
    pieces, length = [], 0
    for piece in template.generate(**variables):
        pieces.append(piece)
        length += len(piece)
        if length > limit:
            raise OverflowError(f"more than {limit:,} characters were written")
    return "".join(pieces)


def answer(env: ImmutableSandboxedEnvironment, compiled: dict[str, jinja2.Template], request: dict) -> dict:
    """One request: a template's source and the variable sets to render it with."""
    try:
        source = request["source"]
        if source not in compiled:
            if len(compiled) >= KEPT_TEMPLATES:
                compiled.pop(next(iter(compiled)))
            compiled[source] = env.from_string(source)
        env.generation_marks = tuple(request["marks"])  # type: ignore[attr-defined]
        template = compiled[source]
        return {"texts": [render(template, variables, request["limit"]) for variables in request["renders"]]}
    except (MemoryError, OverflowError, RecursionError) as error:
        return {"error": "limit", "message": str(error) or type(error).__name__}
    except Exception as error:  # whatever a template does wrong is the template's fault
        return {"error": "failed", "message": str(error) or type(error).__name__}


@contextlib.contextmanager
def time_limit(seconds: float):
    """End this process after `seconds` of its own CPU time, or three times that on the clock, even inside C code."""
    faulthandler.dump_traceback_later(3 * seconds, exit=True, file=sys.stderr)
    timer = getattr(signal, "setitimer", None)  # Windows has none: there the clock alone counts
    if timer:
        timer(signal.ITIMER_PROF, seconds)  # SIGPROF's default action ends the process
    try:
        yield
    finally:
        if timer:
            timer(signal.ITIMER_PROF, 0)
        faulthandler.cancel_dump_traceback_later()


def limit_memory(size: int) -> None:
    """Let allocations beyond `size` fail, where the system offers it."""
    with contextlib.suppress(ImportError, ValueError, OSError):
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (size, size))


def read_frame(stream: BinaryIO) -> Any:
    """The next JSON message of a pipe, or None at its end."""
    head = stream.read(4)
    if len(head) < 4:
        return None
    (size,) = struct.unpack(">I", head)
    body = stream.read(size)
    return json.loads(body) if len(body) == size else None


def write_frame(stream: BinaryIO, message: Any) -> None:
    """One JSON message, its length first."""
    body = json.dumps(message).encode()
    stream.write(struct.pack(">I", len(body)) + body)
    stream.flush()


def main() -> None:
    """Answer requests until the parent closes the pipe."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent; it closes the pipe when it ends
    limit_memory(MEMORY_BYTES)
    env, compiled = environment(), {}
    requests, replies = sys.stdin.buffer, os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    write_frame(replies, {"ready": True})
    while (request := read_frame(requests)) is not None:
        with time_limit(request["seconds"]):
            reply = answer(env, compiled, request)
        write_frame(replies, reply)


if __name__ == "__main__":
    main()
