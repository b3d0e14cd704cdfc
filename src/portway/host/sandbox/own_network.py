"""The network of a sandbox: a namespace of its own with traffic to the outside by slirp4netns, and addresses that are
closed.

A program of its own: the parent of both, which ends with either of them and exits as bubblewrap does; when it is
killed, they end. Before the sandboxed command starts, the outside is reached, and what must not be reached is closed.
Then this process joins the namespace, and hands out sockets of the namespace to those who connect to its own
(`portway.http.namespace_dial`). No process of the sandbox sees it: it is in neither its PID nor its mount namespace.

Every start waits for this program, so it does without `socket` and `signal`, whose imports take longer than the rest.
"""

import _socket as socket
import fcntl
import os
import select
import struct
import sys
import time

DNS = "198.19.255.3"
"""The resolver that slirp4netns offers inside, in a block of addresses that is routed nowhere (RFC 2544)."""
_ADDRESS, _GATEWAY, _BITS, _MTU = "198.19.255.100", "198.19.255.2", 24, 65_520
_SLIRP = (f"--mtu={_MTU}", "--disable-host-loopback", f"--cidr=198.19.255.0/{_BITS}")
_GUARDED = ("--enable-sandbox", "--enable-seccomp")
_DEVICE = "tap0"
_PATH = "/proc/self/fd"
_NS_GET_USERNS = 0xB701  # ioctl_ns(2)
_CLONE_NEWUSER, _CLONE_NEWNET = 0x10000000, 0x40000000
_SIGKILL, _SIGPIPE, _SIGXFSZ = 9, 13, 25
_BACKLOG = 1024
_LOOKS, _LOOK_SECONDS = 5000, 0.0002
_ANSWER_BYTES = 65_536
# Link-local addresses, and those at which providers have the metadata of a machine: Azure, Alibaba and Oracle, then by
# IPv6 Amazon, Google and Scaleway.
_CLOSED = ("169.254.0.0/16", "168.63.129.16/32", "100.100.100.200/32", "192.0.0.192/32")
_CLOSED_6 = ("fe80::/10", "fd00:ec2::/32", "fd20:ce::/32", "fd00:42::/32")
# Numbers of netlink(7) and rtnetlink(7):
_REQUEST_ACK_CREATE, _NLMSG_ERROR = 0x1 | 0x4 | 0x400, 2
_RTM_NEWLINK, _RTM_NEWADDR, _RTM_NEWROUTE = 16, 20, 24
_IFF_UP, _IFLA_MTU, _IFA_LOCAL, _RTA_DST, _RTA_GATEWAY = 1, 4, 2, 1, 5
_RTN_UNICAST, _RTN_UNREACHABLE, _RTPROT_STATIC, _RT_TABLE_MAIN = 1, 7, 4, 254


def run(slirp: str, socket_path: str, bubblewrap: str, *arguments: str) -> int:
    """Run bubblewrap to its end and return its exit code; serve at `socket_path`, unless that is empty."""
    inherited = _inheritable()
    info, info_end = os.pipe()
    block, go = os.pipe()
    options = ["--unshare-net", "--die-with-parent", "--info-fd", str(info_end), "--block-fd", str(block)]
    child = _spawn([bubblewrap, *options, *arguments], dict(os.environ), (info_end, block))
    for descriptor in (info_end, block, *inherited):
        os.close(descriptor)
    if first := _first_process(info):
        outside = 0
        try:
            network = os.open(f"/proc/{first}/ns/net", os.O_RDONLY)
            _enter(fcntl.ioctl(network, _NS_GET_USERNS), _CLONE_NEWUSER)
            _await_root()
            outside = _reach_outside(slirp, network)
            _enter(network, _CLONE_NEWNET)
            _configure()
            os.write(go, b"1")
            os.close(go)
            if _serve(socket_path, os.pidfd_open(child), os.pidfd_open(outside)):
                _say("slirp4netns ended, and the app with it")
        except BrokenPipeError:  # bubblewrap has ended, and said why
            pass
        except OSError as error:
            _say(f"the network could not be made: {error.strerror}")
        os.kill(child, _SIGKILL)
        if outside:
            os.kill(outside, _SIGKILL)
            os.waitpid(outside, 0)
    return _exit_code(child)


def _spawn(command: list[str], environment: dict[str, str], descriptors: tuple[int, ...], output: int = 1) -> int:
    """Start a program with inheritable descriptors, and return its pid."""
    for descriptor in descriptors:
        os.set_inheritable(descriptor, True)
    return os.posix_spawn(
        command[0],
        command,
        environment,
        file_actions=[(os.POSIX_SPAWN_DUP2, output, 1), (os.POSIX_SPAWN_DUP2, 2 if output == 1 else output, 2)],
        setsigdef=[_SIGPIPE, _SIGXFSZ],  # which Python ignores
    )


def _inheritable() -> list[int]:
    """Return the descriptors that were passed to this process for the sandbox."""
    found = []
    for name in os.listdir(_PATH):
        try:
            if int(name) > 2 and os.get_inheritable(int(name)):
                found.append(int(name))
        except OSError:  # that of the listing itself
            pass
    return found


def _first_process(info: int) -> int:
    """Return the pid of the first process in the sandbox, 0 if bubblewrap ended before there was one."""
    text = b""
    while b"}" not in text:
        more = os.read(info, 4096)
        if not more:
            return 0
        text += more
    return int(text.partition(b'"child-pid":')[2].partition(b",")[0].strip(b" \n}"))


def _enter(namespace: int, kind: int) -> None:
    """Move this process into a namespace. A user namespace ends its rights outside of it."""
    if sys.version_info >= (3, 12):
        os.setns(namespace, kind)
        return
    import ctypes

    if ctypes.CDLL(None, use_errno=True).setns(namespace, kind):
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


def _await_root() -> None:
    """Wait until bubblewrap has made this process root in its user namespace."""
    for _ in range(_LOOKS):
        if os.getuid() == 0:
            break
        time.sleep(_LOOK_SECONDS)


def _reach_outside(slirp: str, network: int) -> int:
    """Start slirp4netns for the namespace, and return its pid when it is connected.

    It starts in this process's user namespace, where it is root and can put itself into a sandbox.
    """
    output = os.memfd_create("output")
    for options in ((*_SLIRP, *_GUARDED), _SLIRP):  # not every kernel lets it
        ready, ready_end = os.pipe()
        end, _ = os.pipe()  # slirp4netns ends when this process does
        words = [slirp, *options, "--ready-fd", str(ready_end), "--exit-fd", str(end)]
        words += ["--netns-type=path", f"{_PATH}/{network}", _DEVICE]
        pid = _spawn(words, {}, (network, ready_end, end), output)
        os.close(ready_end)
        os.close(end)
        if os.read(ready, 1):
            return pid
        os.waitpid(pid, 0)
    said = os.pread(output, _ANSWER_BYTES, 0).decode(errors="replace").strip().splitlines()
    raise OSError(0, "".join(said[-1:]))


def _configure() -> None:
    """Give the device its address and the default route; make the closed addresses unreachable.

    slirp4netns could do the first, but it would bring up the loopback too, which bubblewrap does at the same time.
    """
    netlink = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW)

    def ask(kind: int, body: bytes, *attributes: tuple[int, bytes]) -> None:
        for key, value in attributes:
            body += struct.pack("=HH", 4 + len(value), key) + value
        netlink.send(struct.pack("=IHHII", 16 + len(body), kind, _REQUEST_ACK_CREATE, 0, 0) + body)
        _, kind, _, _, _, error = struct.unpack_from("=IHHIIi", netlink.recv(_ANSWER_BYTES))
        if kind != _NLMSG_ERROR or error:
            raise OSError(-error, os.strerror(-error))

    def route(family: int, bits: int, kind: int, attribute: int, address: str) -> None:
        body = struct.pack("=8BI", family, bits, 0, 0, _RT_TABLE_MAIN, _RTPROT_STATIC, 0, kind, 0)
        ask(_RTM_NEWROUTE, body, (attribute, socket.inet_pton(family, address)))

    family, device = socket.AF_INET, socket.if_nametoindex(_DEVICE)
    address = struct.pack("=4BI", family, _BITS, 0, 0, device)
    ask(_RTM_NEWADDR, address, (_IFA_LOCAL, socket.inet_pton(family, _ADDRESS)))
    link = struct.pack("=BxHiII", socket.AF_UNSPEC, 0, device, _IFF_UP, _IFF_UP)
    ask(_RTM_NEWLINK, link, (_IFLA_MTU, struct.pack("=I", _MTU)))
    route(family, 0, _RTN_UNICAST, _RTA_GATEWAY, _GATEWAY)
    for closed, blocks in ((family, _CLOSED), *((six, _CLOSED_6) for six in _ipv6())):
        for block in blocks:
            start, _, bits = block.partition("/")
            route(closed, int(bits), _RTN_UNREACHABLE, _RTA_DST, start)
    netlink.close()


def _serve(path: str, sandbox: int, outside: int) -> bool:
    """Hand out sockets of this namespace at `path`, if it is not empty, until one of the processes has ended.

    Return whether the sandbox is still there.
    """
    poll = select.poll()
    poll.register(sandbox, select.POLLIN)
    poll.register(outside, select.POLLIN)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    if path:
        listener.bind(path)
        listener.listen(_BACKLOG)
        poll.register(listener.fileno(), select.POLLIN)
    while (ended := {sandbox, outside} & {descriptor for descriptor, _ in poll.poll()}) == set():
        offered: list[socket.socket] = []
        try:
            asking = socket.socket(fileno=listener._accept()[0])  # type: ignore[attr-defined]
            offered += [asking, *(socket.socket(family, socket.SOCK_STREAM) for family in (socket.AF_INET, *_ipv6()))]
            descriptors = struct.pack(f"={len(offered) - 1}i", *(each.fileno() for each in offered[1:]))
            asking.sendmsg([b"\0"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, descriptors)])
        except OSError:  # the client has gone, or there are too many sockets
            pass
        for each in offered:
            each.close()
    return sandbox not in ended


def _ipv6() -> list[int]:
    """Return the family of IPv6 sockets, if the kernel has any."""
    return [socket.AF_INET6] if os.path.exists("/proc/self/net/if_inet6") else []


def _say(line: str) -> None:
    os.write(2, f"portway: {line}\n".encode())


def _exit_code(child: int) -> int:
    """Wait for the end of a child and return its exit code as a shell does."""
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    return code if code >= 0 else 128 - code


def main() -> None:
    sys.exit(run(*sys.argv[1:]))
