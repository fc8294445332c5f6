"""Clients that mean an SFTP server no good: each gets an error, or ends its own session, and nothing else."""

from __future__ import annotations

import os
import struct
import threading
from pathlib import Path

import pytest
import trio
import trio.testing
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import trio_ssh
from tests.runtime.helpers import HOST_KEY
from tests.sftp.by_hand import NO_ATTRIBUTES, HandClient, R, W, door, serving, session
from trio_ssh.errors import RemoteProtocolError
from trio_ssh.sftp import beneath
from trio_ssh.sftp.messages import (
    Attrs,
    CheckFile,
    Close,
    CopyData,
    Data,
    Extended,
    Fsetstat,
    Fstat,
    Handle,
    Init,
    Lsetstat,
    Lstat,
    Mkdir,
    OneHandle,
    OnePath,
    Open,
    Opendir,
    Packet,
    Read,
    Readdir,
    Readlink,
    Realpath,
    Remove,
    Rename,
    Rmdir,
    Setstat,
    Stat,
    Status,
    Symlink,
    TwoPaths,
    UsersGroups,
    Write,
)
from trio_ssh.sftp.protocol import KIB, MIB, SFTPLimits, StatusCode
from trio_ssh.sftp.session import ServerSession, WriteParts
from trio_ssh.testing import MemorySFTPServer, open_memory_client

EVERY_REQUEST: list[Packet] = [
    Open(b"/file", R, trio_ssh.SFTPAttributes(st_size=1, st_uid=2, st_gid=3, st_mode=4, st_atime=5, st_mtime=6)),
    Close(b"handle"),
    Read(b"handle", 1, 2),
    Lstat(b"/file"),
    Fstat(b"handle"),
    Setstat(b"/missing", trio_ssh.SFTPAttributes(extended={b"a": b"b"})),
    Fsetstat(b"handle", NO_ATTRIBUTES),
    Opendir(b"/missing"),
    Readdir(b"handle"),
    Remove(b"/missing"),
    Mkdir(b"/missing/x", NO_ATTRIBUTES),
    Rmdir(b"/missing"),
    Realpath(b"/file"),
    Stat(b"/file"),
    Rename(b"/missing", b"/x"),
    Readlink(b"/file"),
    Symlink(b"/file", b"/missing/x"),
    Extended("posix-rename@openssh.com", TwoPaths(b"/missing", b"/x").encode()),
    Extended("hardlink@openssh.com", TwoPaths(b"/missing", b"/x").encode()),
    Extended("statvfs@openssh.com", OnePath(b"/missing").encode()),
    Extended("fstatvfs@openssh.com", OneHandle(b"handle").encode()),
    Extended("fsync@openssh.com", OneHandle(b"handle").encode()),
    Extended("lsetstat@openssh.com", Lsetstat(b"/missing", NO_ATTRIBUTES).encode()),
    Extended("limits@openssh.com", b""),
    Extended("expand-path@openssh.com", OnePath(b"~/x").encode()),
    Extended("copy-data", CopyData(b"handle", 0, 0, b"other", 0).encode()),
    Extended("home-directory", OnePath(b"").encode()),
    Extended("users-groups-by-id@openssh.com", UsersGroups(b"\0\0\0\0", b"").encode()),
    Extended("check-file", CheckFile(b"handle", "md5", 0, 0, 0).encode()),
    Extended("check-file-name", CheckFile(b"/missing", "md5", 0, 0, 0).encode()),
]


def name_of(packet: object) -> str:
    return packet.name if isinstance(packet, Extended) else type(packet).__name__


def framed(payload: bytes) -> bytes:
    return struct.pack(">I", len(payload)) + payload


@pytest.fixture(params=["local", "memory"])
def server(request: pytest.FixtureRequest, tmp_path: Path) -> trio_ssh.SFTPServer:
    if request.param == "memory":
        return MemorySFTPServer({"/file": b"content"})
    (tmp_path / "file").write_bytes(b"content")
    return trio_ssh.LocalSFTPServer(tmp_path)


async def still_serves(hand: HandClient) -> None:
    assert (await hand.ask(Stat(b"/file"), Attrs)).attributes.st_size == 7


# -- malformed requests


@pytest.mark.parametrize("packet", EVERY_REQUEST, ids=name_of)
async def test_a_request_that_is_cut_short_is_answered_by_an_error(server: trio_ssh.SFTPServer, packet: Packet) -> None:
    """At every byte behind the id; and with a byte too many."""
    payload = bytes(packet.frame(7)[4:])
    async with serving(server) as hand:
        ends = range(5, len(payload))
        await hand.send(b"".join(framed(payload[:end]) for end in ends) + framed(payload + b"\0"))
        codes = []
        for _ in range(len(ends) + 1):
            number, reply = await hand.next()
            assert number == 7
            codes.append(reply.code if isinstance(reply, Status) else StatusCode.OK)
        if isinstance(packet, Extended):
            # Details that are cut inside the name are an extension that nobody knows.
            assert set(codes) <= {StatusCode.BAD_MESSAGE, StatusCode.OP_UNSUPPORTED}
        else:
            assert set(codes) == {StatusCode.BAD_MESSAGE}
        await still_serves(hand)


@pytest.mark.parametrize("kind", [0, 1, 2, 21, 99, 101, 102, 103, 104, 105, 199, 201, 255])
async def test_what_is_no_request_is_not_supported(server: trio_ssh.SFTPServer, kind: int) -> None:
    async with serving(server) as hand:
        await hand.send(framed(bytes((kind,)) + struct.pack(">I", 9) + b"whatever"))
        number, reply = await hand.next()
        assert number == 9
        assert isinstance(reply, Status)
        assert reply.code == StatusCode.OP_UNSUPPORTED
        await still_serves(hand)


@pytest.mark.parametrize(
    "data",
    [
        b"\0\0\0\0",
        b"\xff\xff\xff\xff\x05",
        struct.pack(">I", 256 * KIB + 1025) + b"\x05",
        framed(b"\x05"),
        framed(b"\x11\0\0\0"),
        struct.pack(">IBII", 10, 6, 1, 2**32 - 1) + bytes(12),
        struct.pack(">IBII", 10, 6, 1, 0) + bytes(12),
        struct.pack(">IBIIQI", 21, 6, 1, 0, 0, 2**32 - 1),
        b"SSH-2.0-lost my way\r\n",
    ],
)
async def test_what_is_no_packet_ends_the_session_and_no_other(server: trio_ssh.SFTPServer, data: bytes) -> None:
    async with (
        open_memory_client(door(server), host_key=HOST_KEY) as client,
        session(client) as other,
        session(client) as hand,
    ):
        await hand.send(data)
        with pytest.raises(EOFError):
            await hand.packet()
        assert await hand.channel.recv_exit_status() == 1
        await still_serves(other)


@pytest.mark.parametrize(
    "first",
    [
        *(bytes(packet.frame(3)) for packet in EVERY_REQUEST[:5]),
        bytes(Write(b"handle", 0, b"x" * 100).frame(3)),
        framed(Init(2, b"").encode()),
        framed(Init(0, b"").encode()),
        framed(b"\x01"),
        framed(b"\x01\0\0\0"),
        b"\0\0\0\0",
    ],
)
async def test_nothing_is_served_before_the_version(server: trio_ssh.SFTPServer, first: bytes) -> None:
    async with serving(server, begin=False) as hand:
        await hand.send(first)
        with pytest.raises(EOFError):
            await hand.packet()
        assert await hand.channel.recv_exit_status() == 1


async def test_a_second_version_is_no_request(server: trio_ssh.SFTPServer) -> None:
    async with serving(server) as hand:
        await hand.send(framed(Init(3, b"").encode()))
        number, reply = await hand.next()
        assert number == 3
        assert isinstance(reply, Status)
        assert reply.code == StatusCode.OP_UNSUPPORTED
        await still_serves(hand)


async def test_a_newer_client_is_told_our_version(server: trio_ssh.SFTPServer) -> None:
    async with serving(server, begin=False) as hand:
        await hand.send(framed(Init(6, b"").encode()))
        assert (await hand.packet())[:5] == b"\x02\0\0\0\x03"
        await still_serves(hand)


@given(data=st.binary(max_size=200), cut=st.integers(0, 200))
def test_any_bytes_are_requests_or_a_protocol_error(data: bytes, cut: int) -> None:
    session = ServerSession(SFTPLimits())
    session.receive_data(memoryview(framed(Init(3, b"").encode())))
    try:
        for part in (data[:cut], data[cut:]):
            assert not session.receive_data(memoryview(part))
    except RemoteProtocolError:
        pass


@given(data=st.lists(st.tuples(st.integers(0, 255), st.binary(max_size=60)), max_size=8))
@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_well_framed_packet_has_one_reply(data: list[tuple[int, bytes]]) -> None:
    async def play() -> None:
        async with serving(MemorySFTPServer({"/file": b"content"})) as hand:
            sent = 0
            for kind, fields in data:
                if kind != 6:
                    sent += 1
                    await hand.send(framed(bytes((kind,)) + struct.pack(">I", sent) + fields))
            numbers = [(await hand.next())[0] for _ in range(sent)]
            assert sorted(numbers) == list(range(1, sent + 1))
            await still_serves(hand)

    trio.run(play)


# -- names, sizes, counts


@pytest.mark.parametrize("name", [b"/file\0", b"\0", b"/file\0.txt"])
async def test_a_nul_in_a_name_is_refused_everywhere(server: trio_ssh.SFTPServer, name: bytes) -> None:
    packets: list[Packet] = [
        *(kind(name) for kind in (Lstat, Stat, Opendir, Remove, Rmdir, Realpath, Readlink)),
        *(kind(name, NO_ATTRIBUTES) for kind in (Setstat, Mkdir)),
        *(kind(*names) for kind in (Rename, Symlink) for names in ((name, b"/x"), (b"/x", name))),
        Open(name, W, NO_ATTRIBUTES),
        *(
            Extended(extension, TwoPaths(*names).encode())
            for extension in ("posix-rename@openssh.com", "hardlink@openssh.com")
            for names in ((name, b"/x"), (b"/x", name))
        ),
        *(
            Extended(extension, OnePath(name).encode())
            for extension in ("statvfs@openssh.com", "expand-path@openssh.com", "home-directory")
        ),
        Extended("lsetstat@openssh.com", Lsetstat(name, NO_ATTRIBUTES).encode()),
        Extended("check-file-name", CheckFile(name, "md5", 0, 0, 0).encode()),
    ]
    async with serving(server) as hand:
        for packet in packets:
            assert (await hand.refusal(packet)).code == StatusCode.BAD_MESSAGE
        await still_serves(hand)


async def test_a_path_has_a_length_that_is_bounded(server: trio_ssh.SFTPServer) -> None:
    async with serving(server) as hand:
        for path in (b"/" * 4097, b"a/" * 50_000, b"x" * 250_000, b"../" * 60_000):
            refused = await hand.refusal(Stat(path))
            assert (refused.code, refused.text) == (StatusCode.FAILURE, "a path has at most 4096 bytes here")
        assert (await hand.ask(Stat(b"/" * 4095), Attrs)).attributes.is_dir()
        await hand.refusal(Stat(b"x/" * 2048))


async def test_handles_that_were_never_given_out_are_refused(server: trio_ssh.SFTPServer) -> None:
    async with serving(server) as hand:
        known = await hand.open("/file")
        guesses = [b"", b"\0", b"\xff" * 8, known[:-1], known + b"\0", b"x" * 200_000, (2**63).to_bytes(8, "big")]
        for guess in guesses:
            for packet in (Close(guess), Read(guess, 0, 1), Write(guess, 0, b"x"), Fstat(guess), Readdir(guess)):
                refused = await hand.refusal(packet)
                assert (refused.code, refused.text) == (StatusCode.FAILURE, "no such handle")
        assert (await hand.ask(Read(known, 0, 7), Data)).data == b"content"


@pytest.mark.parametrize("offset", [2**63 - 1, 2**63, 2**64 - 1])
async def test_offsets_that_no_file_has_are_errors(server: trio_ssh.SFTPServer, offset: int) -> None:
    async with serving(server) as hand:
        handle = await hand.open("/file", 3)
        await hand.refusal(Read(handle, offset, 2**32 - 1))
        await hand.refusal(Write(handle, offset, b"xyz"))
        await hand.refusal(Fsetstat(handle, trio_ssh.SFTPAttributes(st_size=offset)))
        await hand.close(handle)
        await still_serves(hand)


async def test_counts_that_claim_much_cost_nothing(server: trio_ssh.SFTPServer) -> None:
    async with serving(server) as hand:
        claims = struct.pack(">II", 0x80000000, 2**32 - 1)
        await hand.send(framed(b"\x09" + struct.pack(">II", 1, 1) + b"/" + claims))
        assert (await hand.reply(1)).code == StatusCode.BAD_MESSAGE  # type: ignore[attr-defined]
        unknown_flags = struct.pack(">I", 0x40)
        await hand.send(framed(b"\x09" + struct.pack(">II", 2, 1) + b"/" + unknown_flags))
        assert (await hand.reply(2)).code == StatusCode.BAD_MESSAGE  # type: ignore[attr-defined]
        await still_serves(hand)


async def test_no_more_handles_than_the_limit_says(server: trio_ssh.SFTPServer) -> None:
    async with serving(server) as hand:
        await hand.send(b"".join(bytes(Opendir(b"/").frame(number)) for number in range(1100)))
        replies = [(await hand.next())[1] for _ in range(1100)]
        assert sum(isinstance(reply, Handle) for reply in replies) == 1024
        await still_serves(hand)


# -- floods


async def test_a_flood_of_requests_is_bounded_while_nobody_reads_the_replies(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """Small requests, each of which asks for much: neither they nor their replies gather."""
    server = MemorySFTPServer({"/file": bytes(MIB)})
    window = trio_ssh.Limits(initial_window_bytes=64 * KIB, largest_window_bytes=64 * KIB)
    async with serving(server, client_limits=window, server_limits=window) as hand:
        handle = await hand.open("/file")
        flood = b"".join(bytes(Read(handle, 0, 2**32 - 1).frame(number)) for number in range(1000))
        sent = 0
        with trio.move_on_after(1):
            for _ in range(10_000):
                await hand.send(flood)
                sent += len(flood)
        # The window is all that it could send: the server took in no more than it had room to answer.
        assert sent < 3 * MIB


@pytest.mark.parametrize("size", [5, 9])
def test_the_smallest_packets_don_t_become_many_objects(size: int) -> None:
    session = ServerSession(SFTPLimits())
    session.receive_data(memoryview(framed(Init(3, b"").encode())))
    flood = framed(b"\x63" + bytes(size - 1)) * 100_000
    rest = session.receive_data(memoryview(flood))
    assert len(session.arrived) == 64
    assert len(rest) > len(flood) - 65 * (4 + size)


async def test_a_flood_of_errors_is_bounded_too(autojump_clock: trio.testing.MockClock) -> None:
    window = trio_ssh.Limits(initial_window_bytes=64 * KIB, largest_window_bytes=64 * KIB)
    flood = framed(b"\x63\0\0\0\0") * 100_000
    sent = 0
    async with serving(MemorySFTPServer(), client_limits=window, server_limits=window) as hand:
        with trio.move_on_after(1):
            for _ in range(100):
                await hand.send(flood)
                sent += len(flood)
        assert sent < 4 * len(flood)


@pytest.mark.parametrize("data", [b"", b"x", b"data"])
@pytest.mark.parametrize("cut", range(40))
def test_bytes_behind_the_data_of_a_write_are_dropped(data: bytes, cut: int) -> None:
    """Wherever the packet arrives in two parts: Go's client sends such packets, and OpenSSH's server takes them."""
    session = ServerSession(SFTPLimits())
    session.receive_data(memoryview(framed(Init(3, b"").encode())))
    packet = framed(bytes(Write(b"hh", 3, data).frame(1)[4:]) + b"surplus") + bytes(Stat(b"/").frame(2))
    session.receive_data(memoryview(packet[:cut]))
    session.receive_data(memoryview(packet[cut:]))
    (_, write), (_, stat) = session.arrived
    assert isinstance(write, WriteParts)
    assert (write.offset, write.handle, b"".join(write.parts.pieces())) == (3, b"hh", data)
    assert stat == Stat(b"/")


async def test_half_a_packet_and_silence_hold_nobody_up(server: trio_ssh.SFTPServer) -> None:
    async with (
        open_memory_client(door(server), host_key=HOST_KEY) as client,
        session(client) as other,
        session(client) as hand,
    ):
        await hand.send(bytes(Write(b"handle", 0, bytes(1000)).frame(1)[:-1]))
        await still_serves(other)
        await hand.send(b"\0")
        assert (await hand.next())[0] == 1


async def test_one_byte_at_a_time_is_as_good_as_all_at_once(server: trio_ssh.SFTPServer) -> None:
    async with serving(server) as hand:
        handle = await hand.open("/new", W)
        for byte in bytes(Write(handle, 0, b"slowly").frame(99)) + bytes(Stat(b"/new").frame(100)):
            await hand.send(bytes((byte,)))
        assert isinstance(await hand.reply(99), Status)
        reply = await hand.reply(100)
        assert isinstance(reply, Attrs)
        assert reply.attributes.st_size == 6


# -- out of the root


ESCAPES = [
    b"/../secret",
    b"../../../../../../../../../../secret",
    b"folder/../../secret",
    b"/folder/../../../secret",
    b"up/secret",
    b"up/../secret",
    b"absolute",
    b"absolute_folder/secret",
    b"chain/secret",
    b"proc/cwd/secret",
    b"\\..\\secret",
    b"..\\secret",
    b"%2e%2e/secret",
]


@pytest.fixture
def fortress(tmp_path: Path) -> Path:
    """A root, a secret beside it, and links that want to go there."""
    (tmp_path / "secret").write_bytes(b"secret")
    root = tmp_path / "root"
    (root / "folder").mkdir(parents=True)
    (root / "file").write_bytes(b"content")
    for name, target in {
        "up": "..",
        "absolute": str(tmp_path / "secret"),
        "absolute_folder": str(tmp_path),
        "chain": "up/up/up",
        "proc": "/proc/self",
    }.items():
        (root / name).symlink_to(target)
    return root


@pytest.mark.parametrize("path", ESCAPES)
async def test_no_request_gets_outside(fortress: Path, path: bytes) -> None:
    outside = fortress.parent
    before = {name: (outside / name).stat()[:8] for name in os.listdir(outside)}
    async with serving(trio_ssh.LocalSFTPServer(fortress)) as hand:
        packets: list[Packet] = [
            Open(path, R, NO_ATTRIBUTES),
            Stat(path),
            Opendir(path),
            Setstat(path, trio_ssh.SFTPAttributes(st_mode=0, st_size=0, st_atime=0, st_mtime=0)),
            Remove(path + b"/secret"),
            Rmdir(path),
            Rename(path + b"/secret", b"/stolen"),
            Extended("hardlink@openssh.com", TwoPaths(path + b"/secret", b"/stolen").encode()),
            Extended("statvfs@openssh.com", OnePath(path).encode()),
            Extended("check-file-name", CheckFile(path, "md5", 0, 0, 0).encode()),
        ]
        for packet in packets:
            await hand.refusal(packet)
        for packet in (
            Mkdir(path + b"/made", NO_ATTRIBUTES),
            Open(path + b"/made", W, NO_ATTRIBUTES),
            Symlink(b"x", path + b"/made"),
            Rename(b"/file", path + b"/made"),
        ):
            await hand.reply(await hand.start(packet))  # inside, at the most
        assert b"stolen" not in await hand.list("/")
    assert {name: (outside / name).stat()[:8] for name in os.listdir(outside) if name != "root"} == {
        name: found for name, found in before.items() if name != "root"
    }
    assert sorted(os.listdir(outside)) == ["root", "secret"]


@pytest.fixture
def swapped(fortress: Path) -> Path:
    """A directory that may be swapped for a link; a ``secret`` in it, where the link leads, and where it would lead."""
    (fortress / "secret").write_bytes(b"the root's")
    (fortress / "swapped").mkdir()
    (fortress / "swapped" / "secret").write_bytes(b"inside")
    (fortress / "link").symlink_to("..")
    return fortress


def swap_in(root: Path) -> None:
    """Let a link have the directory's name."""
    os.rename(root / "swapped", root / "aside")
    os.rename(root / "link", root / "swapped")


def swap_out(root: Path) -> None:
    """Let the directory have its name again."""
    os.rename(root / "swapped", root / "link")
    os.rename(root / "aside", root / "swapped")


@pytest.mark.parametrize("by_kernel", [True, False])
async def test_a_directory_that_is_swapped_for_a_link_leads_nowhere(
    swapped: Path, monkeypatch: pytest.MonkeyPatch, by_kernel: bool
) -> None:
    """A second session, or a user of the machine, swaps all the time while the first reads, writes and removes."""
    if not by_kernel:
        monkeypatch.setattr("trio_ssh.sftp.beneath.kernel_walk", lambda: None)
    is_over = threading.Event()

    def swap() -> None:
        while not is_over.is_set():
            swap_in(swapped)
            swap_out(swapped)

    thread = threading.Thread(target=swap)
    thread.start()
    path = b"/swapped/secret"
    met = {b"inside": 0, b"the root's": 0}
    try:
        async with serving(trio_ssh.LocalSFTPServer(swapped)) as hand:
            rounds = 0
            with trio.fail_after(60):
                # Until both have been met often, the directory and the link.
                while rounds < 150 or min(met.values()) < 10:
                    rounds += 1
                    reply = await hand.reply(await hand.start(Open(path, 3, NO_ATTRIBUTES)))
                    if isinstance(reply, Handle):
                        met[(await hand.ask(Read(reply.handle, 0, 100), Data)).data] += 1
                        await hand.close(reply.handle)
                    for packet in (
                        Setstat(path, trio_ssh.SFTPAttributes(st_mode=0o600)),
                        Mkdir(b"/swapped/made", NO_ATTRIBUTES),
                        Rename(path, path),
                        Remove(b"/swapped/missing"),
                        Rmdir(b"/swapped/made"),
                    ):
                        await hand.reply(await hand.start(packet))
    finally:
        is_over.set()
        thread.join()
    nothing_happened_outside(swapped)


def nothing_happened_outside(root: Path) -> None:
    assert sorted(os.listdir(root.parent)) == ["root", "secret"]
    assert (root.parent / "secret").read_bytes() == b"secret"
    assert (root.parent / "secret").stat().st_mode & 0o777 != 0o600


async def test_a_link_that_comes_between_the_look_and_the_step_is_not_followed(
    swapped: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The walk that is ours: each time that it has found no link under a name, there is one a moment later."""
    monkeypatch.setattr("trio_ssh.sftp.beneath.kernel_walk", lambda: None)
    look = beneath.Beneath._link
    swaps: list[bytes] = []

    def swapping(folder: int, name: bytes) -> bytes | None:
        found = look(folder, name)
        if name == b"swapped":
            assert found is None
            swap_in(swapped)
            swaps.append(name)
        return found

    monkeypatch.setattr(beneath.Beneath, "_link", staticmethod(swapping))
    path = b"/swapped/secret"
    packets: list[Packet] = [
        Open(path, R, NO_ATTRIBUTES),
        Open(path, W, NO_ATTRIBUTES),
        Stat(path),
        Lstat(path),
        Opendir(b"/swapped/"),
        Setstat(path, trio_ssh.SFTPAttributes(st_mode=0o600)),
        Remove(path),
        Mkdir(b"/swapped/made", NO_ATTRIBUTES),
        Rename(path, b"/stolen"),
        Symlink(b"x", b"/swapped/made"),
    ]
    async with serving(trio_ssh.LocalSFTPServer(swapped)) as hand:
        for number, packet in enumerate(packets, start=1):
            await hand.refusal(packet)
            assert len(swaps) == number, packet
            swap_out(swapped)
    nothing_happened_outside(swapped)


@pytest.mark.parametrize("by_kernel", [True, False])
async def test_a_link_that_comes_between_the_walk_and_the_use_is_not_looked_at(
    swapped: Path, monkeypatch: pytest.MonkeyPatch, by_kernel: bool
) -> None:
    """What was found is held: whatever its name means a moment later, it is what is used."""
    if not by_kernel:
        monkeypatch.setattr("trio_ssh.sftp.beneath.kernel_walk", lambda: None)
    find = beneath.Beneath.parent
    swaps: list[bytes] = []

    def swapping(self: beneath.Beneath, path: bytes) -> beneath.Place:
        place = find(self, path)
        swap_in(swapped)
        swaps.append(path)
        return place

    monkeypatch.setattr(beneath.Beneath, "parent", swapping)
    path = b"/swapped/secret"
    async with serving(trio_ssh.LocalSFTPServer(swapped)) as hand:
        for packet in (Mkdir(b"/swapped/made", NO_ATTRIBUTES), Symlink(b"x", b"/swapped/soft"), Remove(path)):
            await hand.do(packet)
            swap_out(swapped)
        assert (await hand.refusal(Lstat(path))).code == StatusCode.NO_SUCH_FILE
        swap_out(swapped)
    assert len(swaps) == 4
    assert sorted(os.listdir(swapped / "swapped")) == ["made", "soft"]
    assert (swapped / "secret").read_bytes() == b"the root's"
    nothing_happened_outside(swapped)
