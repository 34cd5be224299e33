"""Templates are strangers' programs: they end, within limits, and reach nothing."""

import os
import signal
import threading
import time

import pytest

from eyespot.errors import EyespotError
from eyespot.inputs import template as module
from eyespot.inputs.template import render_template
from eyespot.runtime.limits import LIMITS

QUICK = LIMITS.replace(template_timeout_s=0.3)
ENDLESS = {
    "a range of a billion": "{% for i in range(10**9) %}x{% endfor %}",
    "nested loops": "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}",
    "nested loops that write": "{% for i in range(99999) %}{% for j in range(99999) %}x{% endfor %}{% endfor %}",
    "a long string": "{{ 'x' * 10**10 }}",
    "a string that is too long": "{{ 'x' * 20000000 }}",
    "a great power": "{{ (7 ** (10**8)) % 10 }}",
    "a doubling string": "{% set n = namespace(s='xx') %}{% for i in range(60) %}{% set n.s = n.s ~ n.s %}{% endfor %}",
    "a doubling list": "{% set n = namespace(x=[1]) %}{% for i in range(60) %}{% set n.x = [n.x, n.x] %}{% endfor %}"
    "{{ n.x | string | length }}",
    "padding": "{{ 'x'.ljust(10**11) }}",
    "a wide format": "{{ '%099999999999d' % 1 }}",
    "a macro that calls itself": "{% macro f() %}{{ f() }}{{ f() }}{% endmacro %}{{ f() }}",
    "sums of lists": "{{ ([[1] * 20000] * 100000) | sum(start=[]) | length }}",
    "deep brackets": "{{ " + "(" * 30000 + "1" + ")" * 30000 + " }}",
}
ESCAPES = [
    "{{ ''.__class__.__mro__[1].__subclasses__() }}",
    "{{ cycler.__init__.__globals__.os.popen('id').read() }}",
    "{{ namespace.__init__.__globals__ }}",
    "{{ self.__init__.__globals__ }}",
    "{{ messages.append(1) }}",
    "{{ (messages | attr('__class__')).__name__ }}",
    "{{ '{0.__class__.__init__.__globals__}'.format(messages) }}",
    "{% include '/etc/passwd' %}",
    "{% import 'os' as os %}{{ os }}",
]


def failure(template, limits=QUICK, **variables) -> EyespotError:
    with pytest.raises(EyespotError) as error:
        render_template(template, [{"messages": [], **variables}], limits=limits)
    return error.value


@pytest.mark.parametrize("template", ENDLESS.values(), ids=ENDLESS)
def test_a_template_without_end_is_stopped(template):
    started = time.monotonic()
    assert failure(template).code == "template-limit"
    assert time.monotonic() - started < 5


@pytest.mark.parametrize("template", ESCAPES)
def test_a_template_that_reaches_out_is_refused(template):
    assert failure(template).code == "template-failed"


def test_a_hidden_attribute_asked_of_a_filter_is_nothing():
    assert render_template("{{ messages | attr('__class__') | attr('__mro__') }}", [{"messages": []}]) == [""]


def test_rendering_goes_on_after_a_template_was_stopped():
    failure(ENDLESS["nested loops"])
    assert render_template("{{ x }}", [{"x": 1}]) == ["1"]


def test_a_template_longer_than_the_limit_is_not_even_read():
    assert failure("x" * 1000, LIMITS.replace(max_template_chars=999)).code == "template-limit"


def test_output_longer_than_the_limit_is_refused():
    assert failure("{{ 'x' * 100 }}", LIMITS.replace(max_template_output=99)).code == "template-limit"
    assert render_template("{{ 'x' * 99 }}", [{}], limits=LIMITS.replace(max_template_output=99)) == ["x" * 99]


def test_the_templates_own_words_are_in_the_error():
    assert "roles must alternate" in failure("{{ raise_exception('roles must alternate') }}").message


def test_a_syntax_error_is_an_error_of_the_template():
    assert failure("{% if %}").code == "template-failed"


def test_what_chat_templates_use_is_there():
    template = (
        "{% for m in messages %}{% if loop.index0 == 1 %}{% break %}{% endif %}{{ m | tojson }}{% endfor %}"
        "{{ strftime_now('%Y') | length }}{{ dict(a=1).a }}{% generation %}x{% endgeneration %}"
    )
    (text,) = render_template(template, [{"messages": [{"a": "é<"}, {"b": 1}]}], marks=("[", "]"))
    assert text == '{"a": "é<"}41[x]'


def test_blocks_take_their_lines_with_them():
    assert render_template("  {% if true %}\nx\n  {% endif %}\n", [{}]) == ["x\n"]


def test_several_renderings_come_in_order():
    assert render_template("{{ x }}", [{"x": i} for i in range(3)]) == ["0", "1", "2"]


def test_more_templates_than_a_child_keeps_are_no_trouble():
    for _ in range(2):
        for i in range(20):
            assert render_template(f"{i}{{{{ x }}}}", [{"x": "!"}]) == [f"{i}!"]


def test_a_slow_template_does_not_hold_others_up():
    thread = threading.Thread(target=failure, args=(ENDLESS["nested loops"], LIMITS.replace(template_timeout_s=0.8)))
    thread.start()
    try:
        time.sleep(0.1)
        render_template("{{ x }}", [{"x": 1}])
        assert thread.is_alive()
    finally:
        thread.join()


def test_the_children_are_few_and_stay():
    render_template("{{ x }}", [{"x": 1}])
    before = [child.process.pid for child in module._idle]
    render_template("{{ x }}", [{"x": 1}])
    assert [child.process.pid for child in module._idle] == before and len(before) <= module.KEPT_CHILDREN


def test_a_child_that_died_is_replaced():
    render_template("{{ x }}", [{"x": 1}])
    for child in module._idle:
        child.process.kill()
        child.process.wait()
    assert render_template("{{ x }}", [{"x": 2}]) == ["2"]


@pytest.mark.skipif(os.name != "posix", reason="signals")
def test_ctrl_c_is_for_the_parent():
    render_template("{{ x }}", [{"x": 1}])
    child = module._idle[-1]
    child.process.send_signal(signal.SIGINT)
    assert render_template("{{ x }}", [{"x": 2}]) == ["2"]
    assert child.process.poll() is None


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_forked_process_has_its_own_children():
    render_template("{{ x }}", [{"x": 1}])
    pid = os.fork()
    if pid == 0:
        ok = not module._idle and render_template("{{ x }}", [{"x": 2}]) == ["2"]
        module._close_all()
        os._exit(0 if ok else 1)
    assert os.waitpid(pid, 0)[1] == 0
    assert render_template("{{ x }}", [{"x": 3}]) == ["3"]
