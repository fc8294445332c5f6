"""The public names: complete, importable without side effects, and each with a word about it."""

from __future__ import annotations

import ast
import inspect
import subprocess
import sys
from pathlib import Path

import pytest

import trio_ssh
import trio_ssh.testing
import trio_ssh.types

ROOT = Path(trio_ssh.__file__).parent


def test_all_names_are_there_once() -> None:
    assert len(set(trio_ssh.__all__)) == len(trio_ssh.__all__)
    for name in trio_ssh.__all__:
        assert hasattr(trio_ssh, name), name


def test_what_the_package_imports_is_public() -> None:
    tree = ast.parse((ROOT / "__init__.py").read_text())
    imported = {
        alias.asname or alias.name
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("trio_ssh")
        for alias in node.names
        if alias.name != "testing"  # which is not for `from trio_ssh import *`
    }
    assert imported == set(trio_ssh.__all__)


def test_what_is_imported_later_is_what_type_checkers_see() -> None:
    tree = ast.parse((ROOT / "__init__.py").read_text())
    imported = {
        (node.module, alias.name)
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("trio_ssh.")
        for alias in node.names
    }
    assert imported == {(f"trio_ssh.{module}", name) for module, names in trio_ssh._HOMES.items() for name in names}


def test_the_import_itself_loads_nothing() -> None:
    program = "import sys, trio_ssh; assert not [name for name in sys.modules if name.startswith('trio_ssh.')]"
    done = subprocess.run([sys.executable, "-W", "error", "-c", program], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_a_name_that_is_not_there_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="module 'trio_ssh' has no attribute 'conect'"):
        trio_ssh.conect  # type: ignore[attr-defined]  # noqa: B018


def test_every_type_has_its_line_in_the_reference() -> None:
    page = (ROOT.parent / "docs" / "reference" / "types.rst").read_text()
    assert [name for name in trio_ssh.types.__all__ if f"``{name}``" not in page] == []


@pytest.mark.parametrize("name", sorted(trio_ssh.__all__))
def test_every_public_name_is_explained(name: str) -> None:
    value = getattr(trio_ssh, name)
    if inspect.isclass(value) or inspect.isfunction(value):
        assert inspect.getdoc(value), name


@pytest.mark.parametrize("name", sorted(trio_ssh.__all__))
def test_every_public_method_is_explained(name: str) -> None:
    cls = getattr(trio_ssh, name)
    if not inspect.isclass(cls):
        return
    for method_name, method in inspect.getmembers(
        cls, lambda member: inspect.isfunction(member) or isinstance(member, property)
    ):
        is_ours = getattr(method, "__module__", "trio_ssh").startswith("trio_ssh")
        # What a declaration was made into is a constant, although it can be called.
        if is_ours and not method_name.startswith("_") and not method_name.isupper():
            assert inspect.getdoc(method), f"{name}.{method_name}"


@pytest.mark.parametrize("name", sorted(trio_ssh.__all__))
def test_no_public_call_hides_its_parameters(name: str) -> None:
    value = getattr(trio_ssh, name)
    functions = [value] if inspect.isfunction(value) else []
    if inspect.isclass(value) and "__signature__" in vars(value):
        functions = [value]  # its methods are written when they are first used, and it tells what they will take
    elif inspect.isclass(value) and value.__module__.startswith("trio_ssh"):
        functions = [
            member
            for member_name, member in vars(value).items()
            if inspect.isfunction(member) and (not member_name.startswith("_") or member_name == "__init__")
            if member.__module__.startswith("trio_ssh")
        ]
    for function in functions:
        for parameter in inspect.signature(function).parameters.values():
            assert parameter.kind is not inspect.Parameter.VAR_KEYWORD, f"{name}: {function.__qualname__}"


MUST_EXIST = (
    "SSHClient connect Transport SecurityOptions Channel Process CompletedProcess ServerProcess MissingHostKeyPolicy "
    "AutoAddPolicy RejectPolicy WarningPolicy HostKeys PKey RSAKey ECDSAKey Ed25519Key ServerInterface "
    "SubsystemHandler InteractiveQuery serve_tcp serve_listeners serve_stream Message SSHException "
    "AuthenticationException BadAuthenticationType ProcessError BadHostKeyException PasswordRequiredException "
    "PartialAuthentication ChannelException SSHConfig SFTP SFTPClient SFTPFile BufferedFile"
)


@pytest.mark.parametrize("name", MUST_EXIST.split())
def test_the_names_that_users_of_paramiko_and_trio_look_for_are_there(name: str) -> None:
    assert name in trio_ssh.__all__


PARAMIKO = {
    "SSHClient": (
        "connect exec_command invoke_shell get_transport load_system_host_keys load_host_keys save_host_keys "
        "get_host_keys set_missing_host_key_policy set_log_channel"
    ),
    "Transport": (
        "start_client start_server auth_none auth_password auth_publickey auth_interactive open_channel open_session "
        "accept request_port_forward cancel_port_forward global_request send_ignore set_keepalive renegotiate_keys "
        "get_security_options add_server_key get_remote_server_key get_banner is_active is_authenticated get_username "
        "getpeername get_exception"
    ),
    "Channel": (
        "exec_command invoke_shell invoke_subsystem get_pty resize_pty set_environment_variable update_environment "
        "request_x11 request_forward_agent set_combine_stderr recv_exit_status exit_status_ready send_exit_status "
        "get_id get_name set_name get_transport getpeername makefile makefile_stderr"
    ),
    "SFTPClient": (
        "from_transport get_channel open file listdir listdir_attr listdir_iter stat lstat readlink symlink rename "
        "posix_rename remove unlink mkdir rmdir chmod chown utime truncate normalize chdir getcwd get put getfo putfo"
    ),
    "SFTPFile": (
        "read readinto readline readlines readv prefetch write writelines seek tell truncate flush stat chmod chown "
        "utime check readable writable seekable closed name"
    ),
    "ServerInterface": (
        "check_channel_request get_allowed_auths check_auth_none check_auth_password check_auth_publickey "
        "check_auth_interactive check_auth_interactive_response check_port_forward_request "
        "cancel_port_forward_request check_global_request check_channel_pty_request check_channel_shell_request "
        "check_channel_exec_request check_channel_subsystem_request check_channel_window_change_request "
        "check_channel_x11_request check_channel_forward_agent_request check_channel_direct_tcpip_request "
        "check_channel_env_request get_banner"
    ),
}


@pytest.mark.parametrize("name", PARAMIKO)
def test_paramiko_s_methods_have_their_names(name: str) -> None:
    cls = getattr(trio_ssh, name)
    assert [method for method in PARAMIKO[name].split() if not hasattr(cls, method)] == []


def test_importing_neither_speaks_nor_listens() -> None:
    """No event loop, no thread, no file of the user's, no output: only modules."""
    program = (
        "import sys, threading, trio_ssh; [getattr(trio_ssh, name) for name in trio_ssh.__all__];"
        "assert threading.active_count() == 1;"
        "assert 'asyncio' not in sys.modules, 'asyncio was imported';"
        "assert not any(name.startswith('trio_ssh.testing') for name in sys.modules), 'tests were imported';"
        "assert not any(name.startswith('trio_ssh.cli.') for name in sys.modules), 'the command line was imported'"
    )
    done = subprocess.run([sys.executable, "-W", "error", "-c", program], capture_output=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")


def test_the_testing_package_is_imported_when_it_is_first_asked_for() -> None:
    program = (
        "import sys, trio_ssh;"
        "assert 'trio_ssh.testing' not in sys.modules;"
        "trio_ssh.testing.open_memory_client;"
        "assert issubclass(trio_ssh.SFTPFile, trio_ssh.BufferedFile);"
        "assert trio_ssh.SFTP is trio_ssh.SFTPClient"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_the_testing_package_says_what_is_public() -> None:
    assert "testing" in dir(trio_ssh)
    for name in trio_ssh.testing.__all__:
        assert inspect.getdoc(getattr(trio_ssh.testing, name)), name
    assert trio_ssh.testing.open_memory_client.__module__ == "trio_ssh.testing.memory"


def test_the_package_is_marked_as_typed() -> None:
    assert (ROOT / "py.typed").is_file()
