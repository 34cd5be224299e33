"""Renders chat templates in child processes (`sandbox.py`), with limits on time, memory and length.

One child serves many renderings (some 0.1 ms each); a child that overruns its limits is gone, and the next rendering
starts another. Not a renderer for templates of our own: every template takes this one path.
"""

import atexit
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import jinja2

from eyespot.errors import EyespotError
from eyespot.inputs import sandbox
from eyespot.runtime.limits import LIMITS, Limits

KEPT_CHILDREN = 4
PROBE = "80313708"  # no letters, no space: nothing that a template would change


class _Child:
    """One sandbox process."""

    def __init__(self) -> None:
        # -P: the script's folder is not put on the path, so its neighbours cannot shadow the standard library.
        command = [sys.executable, "-P", sandbox.__file__]
        path = os.pathsep.join([str(Path(jinja2.__file__).parents[1]), os.environ.get("PYTHONPATH", "")])
        self.process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={**os.environ, "PYTHONPATH": path},
        )
        if sandbox.read_frame(self.process.stdout) is None:
            self.close()
            raise EyespotError("not-supported", "the process that renders chat templates does not start")

    def ask(self, request: dict) -> dict | None:
        """The child's reply, or None when it did not live to give one."""
        try:
            sandbox.write_frame(self.process.stdin, request)
            return sandbox.read_frame(self.process.stdout)
        except (BrokenPipeError, ValueError):
            return None

    def close(self) -> None:
        """End the child."""
        self.process.kill()
        self.process.stdin.close()
        self.process.stdout.close()
        self.process.wait()


_idle: list[_Child] = []


def _child() -> _Child:
    """An idle child that still lives, or a new one."""
    while _idle:
        child = _idle.pop()
        if child.process.poll() is None:
            return child
        child.close()
    try:
        return _Child()
    except OSError as error:
        raise EyespotError(
            "not-supported", f"the process that renders chat templates does not start: {error}"
        ) from None


def _forget() -> None:
    """After a fork the children belong to the parent; the copies of their pipes are closed here."""
    for child in _idle:
        child.process.returncode = 0
        child.process.stdin.close()
        child.process.stdout.close()
    _idle.clear()


def _close_all() -> None:
    while _idle:
        _idle.pop().close()


atexit.register(_close_all)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)


def render_template(
    source: str,
    renders: Sequence[Mapping[str, Any]],
    *,
    marks: tuple[str, str] = ("", ""),
    limits: Limits = LIMITS,
) -> list[str]:
    """The template's text for each set of variables.

    Args:
        source: Jinja source.
        renders: variables of each rendering; plain JSON data.
        marks: what is written around each `{% generation %}` block.
        limits: of time and length.

    Raises:
        EyespotError: ``template-failed`` with the template's own words, ``template-limit``.
    """
    if len(source) > limits.max_template_chars:
        raise EyespotError(
            "template-limit", f"the template has {len(source):,} characters, more than {limits.max_template_chars:,}"
        )
    request = {
        "source": source,
        "renders": list(renders),
        "marks": marks,
        "limit": limits.max_template_output,
        "seconds": limits.template_timeout_s,
    }
    child = _child()
    reply = child.ask(request)
    if reply is None:
        child.close()
        raise EyespotError("template-limit", f"the template ran longer than {limits.template_timeout_s:g} s")
    if len(_idle) < KEPT_CHILDREN:
        _idle.append(child)
    else:
        child.close()
    if "error" in reply:
        raise EyespotError(f"template-{reply['error']}", f"the chat template says: {reply['message'][:500]}")
    return reply["texts"]


@dataclass(frozen=True, slots=True)
class Shape:
    """What a template takes."""

    strings: bool  # content as a string
    parts: bool  # content as a list of parts
    images: bool  # writes the placeholder of an image part


@lru_cache(maxsize=64)
def probe(template: str, image_token: str | None, tokens: tuple[tuple[str, str], ...], limits: Limits) -> Shape:
    """Find what a template takes by rendering a message each way: what it does not understand vanishes or fails."""

    def shown(content: Any) -> str:
        variables = {**dict(tokens), "messages": [{"role": "user", "content": content}], "add_generation_prompt": False}
        try:
            text = render_template(template, [variables], limits=limits)[0]
        except EyespotError as error:
            if error.code == "template-limit":
                raise
            return ""
        # A template for strings may print the list itself, in Python's or JSON's spelling.
        return "" if "'type':" in text or '"type":' in text else text

    text = {"type": "text", "text": PROBE}
    parts, pictured = shown([text]), shown([{"type": "image"}, text])
    images = bool(image_token) and pictured.count(image_token) > parts.count(image_token)  # type: ignore[arg-type]
    # Stage-1 templates drop the prompt's text and write the picture alone.
    return Shape(PROBE in shown(PROBE), PROBE in parts or images, images)
