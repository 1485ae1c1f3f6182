"""`load_app`: what it finds, and the sentence for each way of not finding it."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest

from fairway.server.app_import import AppImportError, load_app, traceback_of_import


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current directory, not yet importable, with a module of an unusual name in it."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [entry for entry in sys.path if entry])
    before = set(sys.modules)
    (tmp_path / "loading_site").mkdir()
    (tmp_path / "loading_site" / "__init__.py").touch()
    (tmp_path / "loading_site" / "asgi.py").write_text(
        "async def application(scope, receive, send): ...\nclass apps:\n    inner = application\nversion = 3\n"
    )
    yield tmp_path
    for name in set(sys.modules) - before:
        if name.startswith("loading_"):
            del sys.modules[name]


def complaint(target: str) -> AppImportError:
    with pytest.raises(AppImportError) as caught:
        load_app(target)
    return caught.value


def test_current_directory_is_importable(project: Path):
    assert load_app("loading_site.asgi:application").__name__ == "application"
    assert sys.path[0] == str(project)


def test_current_directory_is_put_on_the_path_once(project: Path):
    load_app("loading_site.asgi:application")
    load_app("loading_site.asgi:application")

    assert sys.path.count(str(project)) == 1


def test_attributes_are_followed(project: Path):
    assert load_app("loading_site.asgi:apps.inner").__name__ == "application"


@pytest.mark.parametrize(
    ("target", "hint"),
    [
        ("mysite.asgi", "mysite.asgi:application"),
        ("mysite.asgi:", "mysite.asgi:application"),
        ("mysite/asgi.py", "mysite.asgi:application"),
        (":application", "mysite.asgi:application"),
        ("", "mysite.asgi:application"),
    ],
)
def test_missing_half_is_suggested(target: str, hint: str):
    assert str(complaint(target)) == f'"{target}" does not name an application: write "{hint}"'


@pytest.mark.parametrize(
    ("target", "hint"),
    [
        ("mysite/asgi.py:application", "mysite.asgi:application"),
        (".\\mysite\\asgi.py:app", "mysite.asgi:app"),
        ("./mysite/asgi.py:app", "mysite.asgi:app"),
        ("asgi.py:application", "asgi:application"),
        (".asgi:application", "asgi:application"),
    ],
)
def test_file_name_is_turned_into_a_module_name(target: str, hint: str):
    assert str(complaint(target)).endswith(f': write "{hint}"')


@pytest.mark.parametrize(
    ("module", "missing"),
    [
        ("loading_sight.asgi", "loading_sight"),
        ("loading_site.wsgi", "loading_site.wsgi"),
        ("loading_site.asgi.deeper", "loading_site.asgi.deeper"),
    ],
)
def test_missing_module_is_named_without_a_traceback(project: Path, module: str, missing: str):
    error = complaint(f"{module}:application")

    assert str(error) == f'there is no module "{missing}": is {project} the directory that has manage.py in it?'
    assert error.__cause__ is None


@pytest.mark.parametrize(
    ("source", "text"),
    [
        ("import loading_absent", "ModuleNotFoundError: No module named 'loading_absent'"),
        ("import loading_site.absent", "ModuleNotFoundError: No module named 'loading_site.absent'"),
        ("from sys import absent", "ImportError: cannot import name 'absent' from 'sys' (unknown location)"),
        ("1 / 0", "ZeroDivisionError: division by zero"),
        ("raise ValueError", "ValueError"),
        ("def", "SyntaxError: invalid syntax (loading_broken.py, line 1)"),
    ],
)
def test_error_inside_the_module_keeps_its_traceback(project: Path, source: str, text: str):
    (project / "loading_broken.py").write_text(source)

    error = complaint("loading_broken:application")

    assert str(error) == f'"loading_broken" cannot be imported: {text}'
    assert error.__cause__ is not None


def test_misspelt_attribute_names_the_nearest(project: Path):
    error = complaint("loading_site.asgi:aplication")

    assert str(error) == 'the module "loading_site.asgi" has no attribute "aplication": did you mean "application"?'


def test_attribute_like_no_other_gets_no_suggestion(project: Path):
    assert re.fullmatch(
        'the module "loading_site.asgi" has no attribute "qqq"', str(complaint("loading_site.asgi:qqq"))
    )


def test_object_that_cannot_be_called_is_refused(project: Path):
    assert str(complaint("loading_site.asgi:version")) == (
        '"loading_site.asgi:version" is of type int, which cannot be called: name an ASGI application'
    )


@pytest.mark.parametrize("target", ["loading_site.asgi", "loading_site.asgi.application"])
def test_module_alone_and_the_form_of_the_setting_are_understood(project: Path, target: str):
    assert load_app(target) is load_app("loading_site.asgi:application")


def test_other_command_and_dotted_form_are_suggested(project: Path):
    assert str(complaint("doctr")) == '"doctr" does not name an application: did you mean doctor?'
    assert str(complaint("absent.asgi.application")) == (
        '"absent.asgi.application" does not name an application: write "absent.asgi:application"'
    )


def test_wsgi_application_is_one_sentence(project: Path):
    (project / "loading_wsgi.py").write_text("def application(environ, start_response): pass")

    assert str(complaint("loading_wsgi:application")) == (
        '"loading_wsgi:application" is a WSGI application: name the ASGI one, which usually stands in asgi.py beside it'
    )


def test_traceback_of_an_import_has_only_the_applications_own_lines(project: Path):
    (project / "loading_outer.py").write_text("import loading_inner")
    (project / "loading_inner.py").write_text("1 / 0")
    cause = complaint("loading_outer:application").__cause__
    assert cause is not None

    text = traceback_of_import(cause)
    assert [line.split('"')[1] for line in text.splitlines() if line.startswith("  File")] == [
        str(project / "loading_outer.py"), str(project / "loading_inner.py"),
    ]  # fmt: skip
    assert text.endswith("ZeroDivisionError: division by zero")
