"""The client: `connect` and `SSHClient`."""

from __future__ import annotations

import contextlib
import math
import sys
from collections.abc import Generator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, ClassVar, NoReturn, Self

import trio

from trio_ssh.auth import log_in
from trio_ssh.client_sessions import ClientSessions
from trio_ssh.config.applied import Config, apply, apply_limits, choose_algorithms, order_host_keys, read_config
from trio_ssh.config.forwards import start_forwardings
from trio_ssh.config.options import SSHOptions
from trio_ssh.config.ssh_config import ConfigSource
from trio_ssh.config.tokens import local_user
from trio_ssh.config.trust import (
    KnownHosts,
    authority_algorithms,
    host_key_updates,
    load_revoked,
    name_on_record,
)
from trio_ssh.config.values import JumpHost
from trio_ssh.core.limits import DEFAULT_LIMITS, Limits, as_limits
from trio_ssh.credentials import Secret, SecretSource, load_credentials
from trio_ssh.errors import ConnectionLost, LocalProtocolError, ProxyCommandFailure
from trio_ssh.gss import GssPlan, plan_gss
from trio_ssh.host_check import HostCheck
from trio_ssh.host_key_rotation import HostKeyUpdates, UpdateHostKeys, check_update_mode
from trio_ssh.host_keys import MissingHostKeyPolicy
from trio_ssh.host_trust import HostTrust
from trio_ssh.keys.signer import Signer
from trio_ssh.proxy import JumpClient, JumpRoute, OpenJump, open_direct, open_proxy_command
from trio_ssh.runtime.arguments import checked_destination, checked_route
from trio_ssh.runtime.block import Block
from trio_ssh.runtime.explain import Explanation
from trio_ssh.runtime.handshake import NewPasswordHandler, PromptHandler
from trio_ssh.runtime.hints import CLIENT_HINTS, Hints, HintTable, OnlyAsync, with_argument_hints
from trio_ssh.runtime.security_options import AlgorithmNames, DisabledAlgorithms, Security, without
from trio_ssh.runtime.transport import Transport
from trio_ssh.runtime.waiting import OneAtATime
from trio_ssh.wire.text import printable


class SSHClient(HostTrust, ClientSessions, Hints, OnlyAsync):
    """A client with paramiko's methods, awaited.  Its tasks live in its ``async with`` block.

        client = SSHClient()
        client.set_missing_host_key_policy(AutoAddPolicy())
        async with client:
            await client.connect("example.com", username="alice", password="...")
            stdin, stdout, stderr = await client.exec_command("ls -l")
            print(await stdout.readlines())

    For a new program `connect` is shorter.
    """

    _HINTS: ClassVar[HintTable] = CLIENT_HINTS

    def __init__(self) -> None:
        super().__init__()
        self._block = Block()
        self._address = ""
        self._conflict = OneAtATime("another task is connecting this client")
        self._log_channel = "trio_ssh.transport"
        self._options: SSHOptions | None = None
        self._environment: Mapping[str, str] = {}
        self._route: JumpRoute | None = None
        #: What ends a `connect` under way; None where the client was closed meanwhile.
        self._attempt: trio.CancelScope | None = None

    def __repr__(self) -> str:
        transport = self._transport
        if transport is None:
            return "<SSHClient, not connected>"
        negotiated = transport.get_negotiated()
        name = printable(transport.get_username() or "nobody", 40)
        if negotiated is None or not transport.is_active():
            return f"<SSHClient {name}@{self._address}, not connected>"
        cipher = negotiated.client_to_server.cipher.removesuffix("@openssh.com")
        return f"<SSHClient {name}@{self._address} {cipher}, {len(transport._channels)} channels>"

    async def __aenter__(self) -> Self:
        await self._block.open()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        # Closing waits two seconds at the most, and cancelled it is done at once.
        await self._block.close(error, self.aclose)  # noqa: ASYNC102 -- what it calls has bounds of its own

    async def aclose(self) -> None:
        """Disconnect, and give up connecting.  The client may connect again within its block."""
        attempt, self._attempt = self._attempt, None
        if attempt is not None:
            attempt.cancel()  # another task's: its half-made connection must not outlive the block
        transport, self._transport = self._transport, None
        try:
            if transport is not None:
                await transport.aclose()
            else:
                await trio.lowlevel.checkpoint()
        finally:
            await self._leave_route()  # noqa: ASYNC102 -- cancelled, it is left at once

    async def _leave_route(self) -> None:
        route, self._route = self._route, None
        if route is not None:
            await route.aclose()

    # -- connecting

    def set_log_channel(self, name: str) -> None:
        """Let the connections that are made from now on log under this name, instead of ``trio_ssh.transport``."""
        self._log_channel = name

    @with_argument_hints
    async def connect(
        self,
        hostname: str,
        port: int | None = None,
        username: str | None = None,
        password: SecretSource | None = None,
        pkey: Signer | Sequence[Signer] | None = None,
        key_filename: str | Path | Sequence[str | Path] | None = None,
        *,
        passphrase: SecretSource | None = None,
        look_for_keys: bool = True,
        allow_agent: bool | str | Path = True,
        identities_only: bool | None = None,
        prompt_handler: PromptHandler | None = None,
        new_password: NewPasswordHandler | None = None,
        client_host_keys: Signer | Sequence[Signer] | None = None,
        client_host: str | None = None,
        client_username: str | None = None,
        gss_auth: bool | None = None,
        gss_kex: bool | None = None,
        gss_deleg_creds: bool | None = None,
        gss_host: str | None = None,
        known_hosts: KnownHosts | None = None,
        host_key_alias: str | None = None,
        update_host_keys: UpdateHostKeys | None = None,
        sock: trio.abc.Stream | None = None,
        via: JumpClient | None = None,
        compress: bool | None = None,
        security: Security | None = None,
        kex: AlgorithmNames | None = None,
        host_key_algorithms: AlgorithmNames | None = None,
        ciphers: AlgorithmNames | None = None,
        macs: AlgorithmNames | None = None,
        compressions: AlgorithmNames | None = None,
        disabled_algorithms: DisabledAlgorithms | None = None,
        keepalive: float | None = None,
        limits: Limits = DEFAULT_LIMITS,
        config: Config | None = ConfigSource.DEFAULT,
    ) -> None:
        """Connect, check the host's key, and log in.

        What is not given, the user's configuration says, as for ssh; what is given wins.  See `SSHConfig`.

        Args:
            hostname: a name, an address, or an alias that the configuration knows.
            port: None for the configuration's, or 22.
            username: None for the configuration's, or the local user's.
            password: a str, which also opens encrypted key files unless `passphrase` is given; or a function that gets
                it, sync or async, which is called once, and only if the server wants a password.
            passphrase: opens encrypted key files: a str, or a function as for `password`, which is called when the
                server wants a signature by such a key.
            pkey, key_filename: private keys to try first, loaded (or an agent's) or by file.  A file whose key can't be
                read will do, if the agent has that key.
            allow_agent: also try the keys of the user's agent, behind those that are given; or of the agent at this
                path.
            identities_only: of the agent's keys, try only those that are given, named or found besides.
            look_for_keys: also try the configuration's keys, or else id_ed25519, id_ecdsa and id_rsa in ``~/.ssh``, and
                id_ed25519_sk and id_ecdsa_sk by the agent, unless a key is given.
            prompt_handler: answers keyboard-interactive prompts.
            new_password: called with what the server says where the password has expired; returns the new one, or None;
                sync or async.
            client_host_keys: this host's keys, for servers that take its word for who its users are (``hostbased``).
            client_host, client_username: what this host and the user are called here; None to ask the system.
            gss_auth: log in by GSS-API, which is Kerberos; needs the extra ``gssapi``.  None for the configuration's.
            gss_kex: exchange keys by it as well, where the server does: then it is the realm that vouches for the
                server, no record of host keys is looked at, and the same ticket logs in.  None for the configuration's.
            gss_deleg_creds: let the server use the user's credentials elsewhere.  None for the configuration's.
            gss_host: the server's name, as the realm knows it; None for `hostname`.
            known_hosts: `HostKeys` or files to look the host up in, instead of those loaded; without any, those of the
                configuration, or the user's and the system's known_hosts, are read.
            host_key_alias: the name to look the host up by, instead of `hostname` and `port`.
            update_host_keys: whether the record of a known host follows what the server proves to be its keys:
                ``"yes"``, ``"no"``, or ``"ask"``, which has the policy decide; None for the configuration's, or, where
                the host is in the user's own known_hosts, yes.
            sock: any connected stream, instead of a way to `hostname` and `port`; the client's from now on.
            via: a client of a host that connects to `hostname` and `port` in our place; it stays connected.
            compress: offer zlib first.
            security: which algorithms to enable: a profile, or `SecurityOptions`; None for ``"modern"``, and what the
                configuration makes of it.
            kex, host_key_algorithms, ciphers, macs, compressions: what to enable of one kind, best first, or a text as
                in ssh_config, such as ``"+aes128-cbc"``; None for what `security` says.
            disabled_algorithms: what to take away of all that, as paramiko has it: ``{"ciphers": ["aes128-ctr"]}``, by
                ``"kex"``, ``"keys"``, ``"pubkeys"``, ``"ciphers"``, ``"macs"`` and ``"compression"``.
            keepalive: seconds of silence after which the server is asked for a sign of life; 0 for never.
            limits: bounds on what the server may choose.
            config: an `SSHConfig`, or a file; by default the user's and the system's.  None for none.

        Raises:
            OSError: no connection.
            ProxyJumpFailure, ProxyCommandFailure: no way to the host.
            ConfigParseError, CouldNotCanonicalize: the configuration is at fault.
            ForwardingFailure: what it wants forwarded can't be, and it says that it must.
            TypeError, ValueError: an argument can't be meant so: a name, a port, an algorithm, two ways to one host.
            UnknownHostKeyException, BadHostKeyException: the key is not known, or not the known one.
            AuthenticationException: nothing that was tried will do.
            KeyFileException: a key file that was named can't be used.
            RemoteProtocolError, IncompatiblePeer, ConnectionLost: no SSH, no common algorithms, gone.

        There is no timeout argument: `trio.fail_after` around it bounds everything from the look-up of the name on, and
        the connection itself has ``limits.login_seconds``.  Cancelled, the socket is closed.
        """
        try:
            checked_destination(hostname, port, username)
            check_update_mode(update_host_keys)
            checked_route(sock, via)
            as_limits(limits)
            if self._block.nursery is None:
                raise LocalProtocolError("connect inside the client's block: `async with client:`")
            if self._transport is not None:
                raise LocalProtocolError("this client is connected: aclose() first")
            self._conflict.check()
        except BaseException:
            if isinstance(sock, trio.abc.AsyncResource):
                await trio.aclose_forcefully(sock)
            raise
        with self._conflict, trio.CancelScope() as attempt:
            self._attempt = attempt
            try:
                config = await read_config(config)
                options = None if config is None else await config.lookup(hostname, port=port, user=username)
                applied = apply(options)
                target = options.hostname if options is not None else hostname
                if port is None:
                    port = (options.port if options is not None else None) or 22
                if username is None:
                    username = (options.user if options is not None else None) or local_user()
                if limits is DEFAULT_LIMITS:
                    limits = apply_limits(options, limits)
                algorithms = choose_algorithms(
                    applied, security, compress, kex, host_key_algorithms, ciphers, macs, compressions
                )
                if disabled_algorithms:
                    algorithms = without(algorithms, disabled_algorithms)
                known = await self._known_hosts(known_hosts, options)
                name = name_on_record(options, target, port, host_key_alias)
                keeps_order = host_key_algorithms is not None or applied.keeps_host_key_order
                algorithms = order_host_keys(algorithms, known, name, keeps_order=keeps_order)
                gss = plan_gss(
                    options,
                    logs_in=gss_auth,
                    exchanges_keys=gss_kex,
                    delegates=gss_deleg_creds,
                    host=gss_host,
                    target=target,
                    trusts_otherwise=self._says_whom_to_trust(known_hosts),
                )
                opener = Secret.of(passphrase)
                credentials = await load_credentials(
                    pkey=pkey,
                    key_filename=key_filename,
                    passphrase=opener,
                    look_for_keys=look_for_keys and not pkey and not key_filename,
                    allow_agent=applied.allow_agent if allow_agent is True else allow_agent,
                    identities_only=applied.identities_only if identities_only is None else identities_only,
                    password=Secret.of(password),
                    new_password=new_password,
                    prompt_handler=prompt_handler,
                    client_host_keys=client_host_keys,
                    client_host=client_host,
                    client_username=client_username,
                    gss=None if gss is None or not gss.logs_in else gss.initiator(),
                    applied=applied,
                )
                check_host_key = HostCheck(
                    self,
                    known,
                    name,
                    self._policy_for(known_hosts, options),
                    await load_revoked(options),
                    authority_algorithms(options),
                    applied.smallest_rsa_bits,
                )
                if sock is not None:
                    stream = sock
                elif via is not None:
                    stream = await via.open_tcp_stream(target, port)
                else:

                    def open_jump(jump: JumpHost, before: JumpClient | None) -> connect:
                        block = connect(
                            jump.host,
                            jump.port,
                            jump.user,
                            passphrase=opener,
                            look_for_keys=look_for_keys,
                            allow_agent=allow_agent,
                            known_hosts=known_hosts,
                            update_host_keys=update_host_keys,
                            via=before,
                            limits=limits,
                            config=config,
                        )
                        block._client._trust_as(self)
                        block._client._clears_forwardings = True  # as for `ssh -W`, by which ssh goes there
                        return block

                    stream = await self._open_stream(hostname, target, port, options, open_jump)
            except BaseException:
                with trio.CancelScope(shield=True) as closing:
                    closing.deadline = trio.current_time() + 1
                    await self._leave_route()
                    if sock is not None:
                        await trio.aclose_forcefully(sock)  # it is ours, whatever becomes of the connection
                raise
            self._address = f"{target}:{port}"
            transport = Transport(
                stream, limits=limits, algorithms=algorithms, log_channel=self._log_channel, nursery=self._block.nursery
            )
            updates = host_key_updates(
                transport, check_host_key, update_host_keys, options, known_hosts, self._has_loaded_keys
            )
            try:
                attempt.deadline = trio.current_time() + limits.login_seconds
                await self._exchange_keys(transport, gss, check_host_key, updates, applied.connect_timeout)
                await log_in(transport, username, credentials)
                await start_forwardings(transport, None if self._clears_forwardings else options)
                # Who closes the client meanwhile has found no transport yet: from here on there is no stopping.
                await trio.lowlevel.checkpoint_if_cancelled()
            except BaseException:
                with trio.CancelScope(shield=True) as closing:
                    closing.deadline = trio.current_time() + 1
                    await transport.aclose()
                    await self._leave_route()
                raise
            self._transport = transport
            self._options = options
            self._environment = applied.environment
            if keepalive is None:
                keepalive = applied.keepalive
            if keepalive:
                transport.set_keepalive(keepalive, applied.keepalive_count)
        if attempt.cancelled_caught:
            if self._attempt is None:
                raise trio.ClosedResourceError("this client was closed while it connected")
            raise ConnectionLost(f"{self._address} did not finish the login within {limits.login_seconds:g} seconds")

    async def _exchange_keys(
        self,
        transport: Transport,
        gss: GssPlan | None,
        check: HostCheck,
        updates: HostKeyUpdates | None,
        seconds: float,
    ) -> None:
        if gss is not None:
            await gss.prepare(transport)
        # No limit, no scope: most have none, and a scope costs 20 us.
        with trio.move_on_after(seconds) if seconds < math.inf else contextlib.nullcontext():
            try:
                await transport._exchange_as_client(check, updates)
            except ConnectionLost as error:
                if isinstance(error.__cause__, ProxyCommandFailure):
                    raise error.__cause__ from None
                raise
            return
        raise TimeoutError(f"{self._address} did not exchange keys within {seconds:g} seconds: ConnectTimeout")

    async def _open_stream(
        self, hostname: str, target: str, port: int, options: SSHOptions | None, open_jump: OpenJump
    ) -> trio.abc.Stream:
        """Go where the configuration says, the way that it says."""
        if options is not None and options.proxy_jump:
            assert self._block.nursery is not None, "the client's block was entered"
            # Known before it is open: whoever is cancelled in between must be able to leave it.
            self._route = JumpRoute(options.proxy_jump, hostname, target, port, open_jump)
            return await self._route.open(self._block.nursery)
        if options is not None and options.proxy_command is not None:
            return await open_proxy_command(options.proxy_command)
        return await open_direct(target, port, options)

    # -- using it

    def get_transport(self) -> Transport | None:
        """Return the connection, or None."""
        return self._transport

    @property
    def transport(self) -> Transport:
        """The connection.

        Raises:
            LocalProtocolError: the client is not connected.
        """
        return self._connected()

    async def wait_closed(self) -> None:
        """Wait until the connection is over, for whatever reason: ``transport.get_exception()`` tells which.

        Raises:
            LocalProtocolError: the client is not connected.
        """
        await self._connected().wait_closed()

    def explain(self) -> Explanation:
        """Say which algorithms were agreed on, and why; ``str`` of it is for people.

        Raises:
            LocalProtocolError: the client is not connected.
        """
        return self._connected().explain()

    def get_options(self) -> SSHOptions | None:
        """Return what the configuration said of this connection, or None without a configuration or a connection."""
        return self._options if self._transport is not None else None


class connect(OnlyAsync):  # noqa: N801 -- called like a function, as `trio.open_nursery` is
    """Connect to a server, as a block: ``async with trio_ssh.connect("example.com", username="alice") as client:``.

    The arguments are those of `SSHClient.connect`, and `policy`, for servers whose key is unknown.  The client
    disconnects at the end of the block, however it is left.
    """

    @with_argument_hints
    def __init__(
        self,
        hostname: str,
        port: int | None = None,
        username: str | None = None,
        password: SecretSource | None = None,
        pkey: Signer | Sequence[Signer] | None = None,
        key_filename: str | Path | Sequence[str | Path] | None = None,
        *,
        passphrase: SecretSource | None = None,
        look_for_keys: bool = True,
        allow_agent: bool | str | Path = True,
        identities_only: bool | None = None,
        prompt_handler: PromptHandler | None = None,
        new_password: NewPasswordHandler | None = None,
        client_host_keys: Signer | Sequence[Signer] | None = None,
        client_host: str | None = None,
        client_username: str | None = None,
        gss_auth: bool | None = None,
        gss_kex: bool | None = None,
        gss_deleg_creds: bool | None = None,
        gss_host: str | None = None,
        known_hosts: KnownHosts | None = None,
        host_key_alias: str | None = None,
        update_host_keys: UpdateHostKeys | None = None,
        policy: MissingHostKeyPolicy | type[MissingHostKeyPolicy] | None = None,
        sock: trio.abc.Stream | None = None,
        via: JumpClient | None = None,
        compress: bool | None = None,
        security: Security | None = None,
        kex: AlgorithmNames | None = None,
        host_key_algorithms: AlgorithmNames | None = None,
        ciphers: AlgorithmNames | None = None,
        macs: AlgorithmNames | None = None,
        compressions: AlgorithmNames | None = None,
        disabled_algorithms: DisabledAlgorithms | None = None,
        keepalive: float | None = None,
        limits: Limits = DEFAULT_LIMITS,
        config: Config | None = ConfigSource.DEFAULT,
    ) -> None:
        client = self._client = SSHClient()
        if policy is not None:
            client.set_missing_host_key_policy(policy)

        async def start() -> None:
            await client.connect(
                hostname,
                port,
                username,
                password,
                pkey,
                key_filename,
                passphrase=passphrase,
                look_for_keys=look_for_keys,
                allow_agent=allow_agent,
                identities_only=identities_only,
                prompt_handler=prompt_handler,
                new_password=new_password,
                client_host_keys=client_host_keys,
                client_host=client_host,
                client_username=client_username,
                gss_auth=gss_auth,
                gss_kex=gss_kex,
                gss_deleg_creds=gss_deleg_creds,
                gss_host=gss_host,
                known_hosts=known_hosts,
                host_key_alias=host_key_alias,
                update_host_keys=update_host_keys,
                sock=sock,
                via=via,
                compress=compress,
                security=security,
                kex=kex,
                host_key_algorithms=host_key_algorithms,
                ciphers=ciphers,
                macs=macs,
                compressions=compressions,
                disabled_algorithms=disabled_algorithms,
                keepalive=keepalive,
                limits=limits,
                config=config,
            )

        self._start = start

    async def __aenter__(self) -> SSHClient:
        await self._client.__aenter__()
        try:
            await self._start()
        except BaseException:
            # Leaves as it is: the block only ends the tasks.
            await self._client.__aexit__(*sys.exc_info())  # noqa: ASYNC102 -- it has bounds of its own
            raise
        return self._client

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self._client.__aexit__(kind, error, traceback)  # noqa: ASYNC102 -- it has bounds of its own

    def __await__(self) -> Generator[Any, Any, NoReturn]:
        raise TypeError(
            "connect() opens a block that owns the connection's tasks: "
            "write `async with trio_ssh.connect(...) as client:`"
        )
