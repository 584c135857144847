"""The fixtures serve a user's tests, whoever runs these, and fail a test that leaves something behind."""

from __future__ import annotations

import runpy
import textwrap
from collections.abc import Callable

import pytest

from aiosock.testing import plugin

pytest_plugins = ["pytester"]

# How the tests of a user are run: the plugins, and what marks a test.
ASYNCIO = ("-p", "pytest_asyncio.plugin", "-o", "asyncio_default_fixture_loop_scope=function")
ANYIO = ("-p", "anyio.pytest_plugin")
RUNNERS = {
    "asyncio-auto": ((*ASYNCIO, "-o", "asyncio_mode=auto"), ""),
    "asyncio-strict": (ASYNCIO, "pytest.mark.asyncio"),
    "anyio": (ANYIO, "pytest.mark.anyio"),
    "anyio-beside-asyncio": (ANYIO + ASYNCIO, "pytest.mark.anyio"),
}
HEAD = """
import asyncio
import pytest
from aiosock import Client
from aiosock.testing import reply, response

@pytest.fixture
def anyio_backend():
    return "asyncio"
"""

Suite = Callable[..., pytest.RunResult]


@pytest.fixture
def suite(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> Suite:
    """A function that runs tests as their user would, in a process of its own."""
    # What is installed beside is nothing to them.
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    monkeypatch.delenv("PYTEST_ADDOPTS", raising=False)

    def run(tests: str, *options: str, runner: str = "asyncio-auto") -> pytest.RunResult:
        plugins, mark = RUNNERS[runner]
        pytester.makepyfile(test_it=f"{HEAD}\npytestmark = [{mark}]\n{textwrap.dedent(tests)}")
        options = ("-p", "aiosock.testing.plugin", "-p", "no:cacheprovider", *plugins, *options)
        return pytester.runpytest_subprocess("-W", "error", *options)

    return run


@pytest.mark.parametrize("runner", RUNNERS)
def test_the_fixtures_work_with_whatever_runs_the_tests(suite: Suite, runner: str) -> None:
    tests = """
        async def test_answers(aiosock_server, aiosock_client):
            server = await aiosock_server(response(200, b"one"), response(200, b"two"))
            assert (await aiosock_client.get(server.url)).text == "one"
            assert (await aiosock_client.get(server.url)).text == "two"
            assert aiosock_client.pool.idle == 1

        async def test_script(aiosock_server, aiosock_client):
            async def script(peer):
                while request := await peer.read_request():
                    await peer.send(response(200, request.target.encode()))

            server = await aiosock_server(script, host="127.0.0.1")
            async with aiosock_client.stream("GET", f"{server.url}/path") as got:
                assert await got.read() == b"/path"

        class TestMethods:
            async def test_mock(self, aiosock_mock):
                aiosock_mock.route("GET /", reply(content="mocked"))
                async with Client(transport=aiosock_mock) as client:
                    assert (await client.get("http://h/")).text == "mocked"

            async def test_nothing_left(self, aiosock_client, aiosock_server):
                server = await aiosock_server(response(200, b"x"))
                assert (await aiosock_client.get(server.url)).text == "x"

        async def test_recorded(aiosock_recorder, aiosock_mock):
            aiosock_mock.route("GET /", reply(content="recorded"))
            async with Client(transport=aiosock_mock, middleware=[aiosock_recorder]) as client:
                assert (await client.get("http://h/")).text == "recorded"
    """
    suite(tests, runner=runner).assert_outcomes(passed=5)


def test_a_fixture_of_ones_own_says_how_the_client_is_made(suite: Suite) -> None:
    tests = """
        @pytest.fixture
        def aiosock_client_options(aiosock_mock):
            return {"transport": aiosock_mock, "base_url": "http://h"}

        async def test_it(aiosock_client, aiosock_mock):
            aiosock_mock.route("GET /a", reply(418))
            assert (await aiosock_client.get("/a")).status_code == 418
    """
    suite(tests).assert_outcomes(passed=1)


def test_a_client_heeds_no_environment(suite: Suite, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    tests = """
        async def test_it(aiosock_client, aiosock_server):
            server = await aiosock_server(response(200, b"x"))
            assert (await aiosock_client.get(server.url)).text == "x"
    """
    suite(tests).assert_outcomes(passed=1)


def test_what_is_left_behind_fails_the_test(suite: Suite) -> None:
    tests = """
        async def test_open_response(aiosock_client, aiosock_server):
            server = await aiosock_server(response(200, b"x" * 1_000_000))
            global kept
            kept = await aiosock_client.send(aiosock_client.build_request("GET", server.url), stream=True)

        async def test_failing_script(aiosock_client, aiosock_server):
            async def script(peer):
                await peer.read_request()
                raise LookupError("a mistake of the script")

            server = await aiosock_server(script)
            with pytest.raises(Exception):
                await aiosock_client.get(server.url)

        async def test_failing_test(aiosock_client, aiosock_server):
            server = await aiosock_server(response(200, b"x" * 1_000_000))
            kept = await aiosock_client.send(aiosock_client.build_request("GET", server.url), stream=True)
            raise KeyError("a mistake of the test")
    """
    result = suite(tests)
    result.assert_outcomes(failed=3)
    result.stdout.fnmatch_lines(
        [
            "*1 response(s) neither read nor closed*",
            "*LookupError: a mistake of the script*",
            "*KeyError: 'a mistake of the test'*",
        ]
    )


def test_a_test_that_is_no_coroutine_is_told_so_and_may_use_the_mock(suite: Suite) -> None:
    tests = """
        def test_client(aiosock_client):
            pass

        def test_mock(aiosock_mock):
            aiosock_mock.route("GET /", reply(content="mocked"))

            async def main():
                async with Client(transport=aiosock_mock) as client:
                    return (await client.get("http://h/")).text

            assert asyncio.run(main()) == "mocked"
    """
    result = suite(tests)
    result.assert_outcomes(passed=1, errors=1)
    result.stdout.fnmatch_lines(["*UsageError: aiosock_client: only for tests that are coroutine functions*"])


RECORDED = """
    import os

    @pytest.fixture
    def aiosock_recorder_options():
        return {"secret_params": ["key"]}

    @pytest.mark.parametrize("name", ["a/b", "c"])
    async def test_it(aiosock_recorder, aiosock_mock, name):
        aiosock_mock.route("GET /", reply(content=os.environ["SERVED"]))
        async with Client(transport=aiosock_mock, middleware=[aiosock_recorder]) as client:
            got = await client.get("http://h/?key=s3cret")
        assert got.text == os.environ["EXPECTED"]
"""


def test_a_recording_is_kept_beside_the_test_and_made_anew_when_asked(
    suite: Suite, pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    def run(served: str, expected: str, *options: str) -> dict[str, int]:
        monkeypatch.setenv("SERVED", served)
        monkeypatch.setenv("EXPECTED", expected)
        return suite(RECORDED, *options).parseoutcomes()

    assert run("1", "1", "--aiosock-record", "replay") == {"failed": 2}
    # A test that fails records nothing.
    assert run("1", "wrong") == {"failed": 2}
    assert not (pytester.path / "recordings").exists()
    assert run("2", "2") == {"passed": 2}
    assert run("3", "2") == {"passed": 2}
    assert run("4", "4", "--aiosock-record=record") == {"passed": 2}
    assert run("5", "4", "--aiosock-record=replay") == {"passed": 2}
    files = sorted((pytester.path / "recordings" / "test_it").iterdir())
    assert [file.name for file in files] == ["test_it-a-b-306b0382.jsonl", "test_it-c.jsonl"]
    assert all("s3cret" not in file.read_text() and "key=REDACTED" in file.read_text() for file in files)


def test_each_test_has_a_recording_of_its_own(suite: Suite, pytester: pytest.Pytester) -> None:
    tests = """
        async def record(recorder, content):
            mock = __import__("aiosock.testing").testing.MockTransport({"GET /": reply(content=content)})
            async with Client(transport=mock, middleware=[recorder]) as client:
                assert (await client.get("http://h/")).text == content

        class TestOne:
            async def test_it(self, aiosock_recorder):
                await record(aiosock_recorder, "one")

            class TestInner:
                async def test_it(self, aiosock_recorder):
                    await record(aiosock_recorder, "inner")

        class TestTwo:
            async def test_it(self, aiosock_recorder):
                await record(aiosock_recorder, "two")

        @pytest.mark.parametrize("name", ["a/b", "a b", "a", "a-", "x" * 300, "x" * 301])
        async def test_name(aiosock_recorder, name):
            await record(aiosock_recorder, name)
    """
    suite(tests).assert_outcomes(passed=9)
    # Played back, each has its own.
    suite(tests, "--aiosock-record=replay").assert_outcomes(passed=9)
    folder = pytester.path / "recordings" / "test_it"
    files = {str(file.relative_to(folder).as_posix()) for file in folder.rglob("*.jsonl")}
    assert {"TestOne/test_it.jsonl", "TestOne/TestInner/test_it.jsonl", "TestTwo/test_it.jsonl"} < files
    assert {"test_name-a.jsonl", "test_name-a-.jsonl"} < files
    assert len(files) == 9


def test_an_old_pytest_may_load_the_plugin(monkeypatch: pytest.MonkeyPatch) -> None:
    """That of pluggy 1.0, which knows no wrapper, and of pytest 6, which knows no stash."""

    def hookimpl(
        hookwrapper: bool = False, optionalhook: bool = False, tryfirst: bool = False, trylast: bool = False
    ) -> Callable[[object], object]:
        return lambda function: function

    for name in ("StashKey", "Stash", "Parser", "FixtureRequest"):
        monkeypatch.delattr(pytest, name)
    monkeypatch.setattr(pytest, "hookimpl", hookimpl)
    runpy.run_path(plugin.__file__)


def test_a_run_that_uses_no_fixture_loads_nothing_heavy(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    pytester.makepyfile(test_it="def test_nothing(): pass")
    pytester.makeconftest(
        """
        import sys

        def pytest_unconfigure():
            heavy = ("aiosock", "asyncio", "ssl", "multidict", "yarl")
            print("loaded:", *sorted(name for name in sys.modules if name.startswith(heavy)))
        """
    )
    result = pytester.runpytest_subprocess("-p", "aiosock.testing.plugin", "-p", "no:cacheprovider")
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(
        ["loaded: aiosock aiosock.errors aiosock.testing aiosock.testing.plugin aiosock.version"]
    )
