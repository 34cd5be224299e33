"""`eyespot doctor`: what is there, and what stands in for what is not."""

import json

from eyespot.cli import doctor
from eyespot.cli.app import main


def test_it_reports_machine_versions_and_optional_parts(capsys):
    assert main(["doctor", "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert shown["machine"]["training precision"] in ("float32", "bfloat16")
    assert shown["versions"]["torch"]
    assert {part["module"] for part in shown["optional"]} == {"sklearn", "skimage", "av", "simplejpeg", "transformers"}


def test_what_is_absent_names_its_stand_in_and_its_extra(capsys, monkeypatch):
    monkeypatch.setattr(doctor, "OPTIONAL", (("no_such_module", "worlds", "a use", "a stand-in"),))
    assert main(["doctor"]) == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert "a stand-in" in shown and "eyespot[worlds]" in shown
