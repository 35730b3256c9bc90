#!/usr/bin/python3 -IS
"""The CNI plugin `flannel` of flanneld-py: reads subnet.env and lets another plugin do the work.

Input, delegate rules and state files are those of flannel's own plugin (flannel-compat 10), so
that either of the two can delete the other's pods. Imports little and only the standard library,
because it starts once per pod (`json` alone would take 6 ms, `subprocess` 10), and runs on Python
3.6, because that is the host's. Must not touch
the kernel: that is the delegate's part. `flanneld-py cni-install` copies this one file.
"""

import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any, NoReturn

VERSION = "0.1.0.dev0"
"""The version of flanneld-py that this file came with."""
SPECIFICATIONS = ("0.1.0", "0.2.0", "0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0")

SUBNET_FILE = "/run/flannel/subnet.env"
DATA_DIR = "/var/lib/cni/flannel"
RUN_DIR = "/run/flanneld-py"
HOST_LOCAL_DIR = "/var/lib/cni/networks"
FIRST_INTERFACE = "eth0"
"""Its state has flannel's own file name, the container's id."""
OTHERS = ":"
"""Stands between id and interface in the names of other state files; legal in neither."""
WAIT_SECONDS = 10.0
"""How long ADD waits for the agent, unless `waitSeconds` in the configuration says otherwise."""
LONGEST_WAIT = 300.0
LOOK_SECONDS = 0.05
AGENT_SECONDS = 1.0
BUSY_TRIES, BUSY_SECONDS = 50, 0.1
"""How often, and how far apart, a plugin is tried whose file is still open for writing."""
MOST_INPUT = 4 * 1024 * 1024
MOST_ENV = 64 * 1024

# CNI specification, 'Error codes'.
INCOMPATIBLE, BAD_ENVIRONMENT, IO_FAILURE, UNDECODABLE, BAD_CONFIG = 1, 4, 5, 6, 7
TRY_AGAIN, NOT_AVAILABLE, INTERNAL = 11, 50, 999

_POD = ("CNI_CONTAINERID", "CNI_IFNAME", "CNI_PATH")
NEEDED = {
    "ADD": ("CNI_NETNS", *_POD),
    "CHECK": ("CNI_NETNS", *_POD),
    "DEL": _POD,
    "GC": ("CNI_PATH",),
    "STATUS": ("CNI_PATH",),
}
"""Commands, and the variables that each one needs."""
SINCE = {"CHECK": "0.4.0", "GC": "1.1.0", "STATUS": "1.1.0"}
NETWORKS = ("FLANNEL_NETWORK", "FLANNEL_IPV6_NETWORK")
SUBNETS = ("FLANNEL_SUBNET", "FLANNEL_IPV6_SUBNET")
MTU, IPMASQ = "FLANNEL_MTU", "FLANNEL_IPMASQ"


class CniError(Exception):
    """What the runtime is told: a code of the specification and one line."""

    def __init__(self, code: int, message: str, details: str = "") -> None:
        self.code = code
        self.message = message
        self.details = details
        super().__init__(message)


class DelegateFailed(Exception):
    """The delegate said why itself; `answer` is its JSON, which is passed on as it is."""

    def __init__(self, plugin: str, answer: bytes) -> None:
        self.answer = answer
        error = _object(answer)
        self.code = error.get("code")
        self.message = "{}: {}".format(plugin, error.get("msg"))
        super().__init__(self.message)


# --- the commands -----------------------------------------------------------------------------


def main() -> int:
    """Do what CNI_COMMAND says; the exit status."""
    version = SPECIFICATIONS[-1]
    try:
        command = os.environ.get("CNI_COMMAND", "")
        if not command:
            return _introduce()
        if command == "VERSION":
            _print({"cniVersion": version, "supportedVersions": SPECIFICATIONS})
            return 0
        _check_environment(command)
        network = Network(_read_input())
        version = network.version or version
        network.check(command)
        {"ADD": add, "DEL": delete, "CHECK": check, "STATUS": status, "GC": collect}[command](
            network
        )
    except DelegateFailed as error:
        _write(1, error.answer)
        return 1
    except (CniError, OSError, RecursionError) as error:
        _print(_described(error, version))
        return 1
    return 0


def add(network: "Network") -> "NoReturn":
    """Remember what the delegate gets, and become the delegate: its answer is ours."""
    conf = _completed(network, _subnet_env(network, network.wait))
    plugin = _find(conf)
    state = _write_state(network.state, _encode(conf))
    os.dup2(state, 0)
    _execute(plugin, os.environ)


def delete(network: "Network") -> None:
    """Undo what the state file, or without one the configuration, says; then forget it.

    The file stays when the delegate failed: the runtime comes again (fault C1 of flannel).
    """
    data, path = network.remembered()
    conf = _object(data)
    if not _is_delegate(conf):
        # Made in direct mode, deleted already, or never made; or (with a path) the file was cut
        # off by a crash (C3). The configuration of today says best what to undo.
        try:
            conf = _completed(network, _subnet_env(network, 0))
            _run(conf, {"CNI_COMMAND": "DEL"}, network.previous)
        except (CniError, DelegateFailed) as error:
            if path:
                raise
            _complain(f"nothing known of {network.state}, and nothing done: {error.message}")
            return
    else:
        _run(conf, {"CNI_COMMAND": "DEL"}, network.previous, data)
    if path == network.state:
        _remove(path)


def check(network: "Network") -> None:
    """Let the delegate look whether the pod is connected as it was told."""
    conf = _object(network.remembered()[0])
    if not _is_delegate(conf):
        conf = _completed(network, _subnet_env(network, 0))
    extra = network.previous
    if extra:
        extra["prevResult"] = _with_gateways(extra["prevResult"])
    _run(conf, {"CNI_COMMAND": "CHECK"}, extra)


def _with_gateways(result: "Any") -> "Any":
    """A result whose routes name the gateway that they have in the pod.

    Without one they go by that of the pod's address. The bridge plugin looks for routes that have
    none then (before 1.5), finds none, and calls every pod broken.
    """
    try:
        gateways = {":" in ip["gateway"]: ip["gateway"] for ip in reversed(result["ips"])}
        routes = [
            route if route.get("gw") else dict(route, gw=gateways[":" in route["dst"]])
            for route in result["routes"]
        ]
    except (KeyError, TypeError, AttributeError):
        return result  # of a form, or with an address, that leaves nothing to add
    return dict(result, routes=routes)


def status(network: "Network") -> None:
    """Say whether ADD would work: the subnet is known, the delegate is there and agrees."""
    try:
        conf = _completed(network, _subnet_env(network, 0))
        _find(conf)
    except CniError as error:
        raise CniError(NOT_AVAILABLE, error.message, error.details) from None
    _run_if_known(conf, {"CNI_COMMAND": "STATUS"}, {})


def collect(network: "Network") -> None:
    """GC: release what attachments hold that the runtime does not know any more.

    Found by our state files and by the book of host-local, which also has the pods of direct mode.
    One that fails stops no other.
    """
    valid = network.attachments()
    problems = []  # type: list[str]
    for name, conf in _states(network):
        container, _, interface = name.partition(OTHERS)
        if (container, interface or FIRST_INTERFACE) in valid:
            continue
        if not interface and _is_claimed(network, container, valid):
            continue
        if _released(conf, container, interface or FIRST_INTERFACE, problems):
            _remove(os.path.join(network.data_dir, name))
    try:
        conf = _completed(network, _subnet_env(network, 0))
    except CniError as error:
        _complain(f"addresses without a state file are left: {error.message}")
    else:
        for container, interface in _booked(conf) - valid:
            _released(conf, container, interface, problems)
        known = {"cni.dev/valid-attachments": network.given["cni.dev/valid-attachments"]}
        try:
            _run_if_known(conf, {"CNI_COMMAND": "GC"}, known)
        except (CniError, DelegateFailed) as error:
            problems.append(error.message)
    if problems:
        raise CniError(
            INTERNAL, f"not all could be released ({len(problems)} failures): {problems[0]}"
        )


# --- input ------------------------------------------------------------------------------------


class Network:
    """The network configuration, with every key of ours checked for its type."""

    def __init__(self, given: "dict[str, Any]") -> None:
        self.given = {}  # type: dict[str, Any]
        for key, value in given.items():  # flannel's plugin does not care for the case of keys
            self.given[_KEYS.get(key.lower(), key)] = value
        self.version = self._get("cniVersion", str, "")  # type: str
        self.name = self._get("name", str, "")  # type: str
        self.subnet_file = self._get("subnetFile", str, "") or SUBNET_FILE  # type: str
        self.data_dir = self._get("dataDir", str, "") or DATA_DIR  # type: str
        self.run_dir = self._get("runDir", str, "") or RUN_DIR  # type: str
        self.delegate = self._get("delegate", dict, {})  # type: dict[str, Any]
        self.ipam = self._get("ipam", dict, {})  # type: dict[str, Any]
        self.runtime = self._get("runtimeConfig", dict, None)  # type: dict[str, Any] | None
        self.wait = self._get("waitSeconds", (int, float), WAIT_SECONDS)  # type: float
        self.container = os.environ.get("CNI_CONTAINERID", "")
        self.interface = os.environ.get("CNI_IFNAME", "")

    @property
    def previous(self) -> "dict[str, Any]":
        """What a delegate gets besides its own configuration when there is a result already."""
        result = self.given.get("prevResult")
        if result is None:
            return {}
        extra = {"prevResult": result}
        if self.version:  # that of the result, which may be newer than the pod
            extra["cniVersion"] = self.version
        return extra

    @property
    def state(self) -> str:
        """The path of this attachment's state file."""
        first = self.interface == FIRST_INTERFACE
        name = self.container if first else self.container + OTHERS + self.interface
        return os.path.join(self.data_dir, name)

    def check(self, command: str) -> None:
        """Raise CniError if the specification forbids this."""
        version = self.version or SPECIFICATIONS[0]
        if version not in SPECIFICATIONS:
            raise CniError(
                INCOMPATIBLE,
                "incompatible CNI versions",
                'config is "{}", plugin supports [{}]'.format(
                    version, " ".join(f'"{one}"' for one in SPECIFICATIONS)
                ),
            )
        if SPECIFICATIONS.index(version) < SPECIFICATIONS.index(SINCE.get(command, "0.1.0")):
            raise CniError(
                INCOMPATIBLE,
                f"{command} needs cniVersion {SINCE[command]} or newer, not {version}",
            )
        if not _is_plain(self.name):
            raise _bad("name", self.name, "letters, digits, '_', '.', '-'")
        if not 0 <= self.wait <= LONGEST_WAIT:
            raise _bad("waitSeconds", self.wait, f"0 to {LONGEST_WAIT:g}")

    def remembered(self) -> "tuple[bytes, str]":
        """Bytes and path of this attachment's state; both empty if there is none.

        flannel's plugin has one file per container, whatever the interface is called (C2). It
        serves for another interface than eth0 if it is of this network, and is not removed then.
        """
        for path in (self.state, os.path.join(self.data_dir, self.container)):
            data = _read(path, MOST_INPUT)
            if data is not None and (path == self.state or self._owns(data)):
                return data, path
        return b"", ""

    def _owns(self, data: bytes) -> bool:
        return bool(_object(data).get("name") == self.name)

    def attachments(self) -> "set[tuple[str, str]]":
        """Container and interface of everything that is still in use. Raises CniError."""
        key = "cni.dev/valid-attachments"
        found = set()
        given = self.given.get(key)
        for one in given if isinstance(given, list) else [None]:
            container, interface = _object_ids(one)
            if not (container and interface):
                # Read as 'none', it would disconnect every pod.
                raise _bad(key, given, "a list of objects with containerID and ifname")
            found.add((container, interface))
        return found

    def _get(self, key: str, kind: "Any", default: "Any") -> "Any":
        value = self.given.get(key)
        if value is None:
            return default
        if not isinstance(value, kind) or isinstance(value, bool):
            raise _bad(key, value, _KINDS[kind])
        return value


_KINDS = {str: "a string", dict: "an object", (int, float): "a number"}
_OWN = ("cniVersion", "name", "subnetFile", "dataDir", "runDir", "waitSeconds")
_PASSED_ON = ("delegate", "ipam", "runtimeConfig", "prevResult")
_KEYS = {key.lower(): key for key in (*_OWN, *_PASSED_ON)}


def _object_ids(one: "Any") -> "tuple[str, str]":
    if not isinstance(one, dict):
        return "", ""
    container, interface = one.get("containerID"), one.get("ifname")
    both = isinstance(container, str) and isinstance(interface, str)
    return (str(container), str(interface)) if both else ("", "")


def _bad(key: str, value: "Any", wanted: str) -> CniError:
    shown = _json(value)
    return CniError(BAD_CONFIG, f"{key} is {shown[:200]}: it must be {wanted}")


def _check_environment(command: str) -> None:
    if command not in NEEDED:
        raise CniError(BAD_ENVIRONMENT, f"unknown CNI_COMMAND: {command[:100]}")
    missing = [name for name in NEEDED[command] if not os.environ.get(name)]
    if missing:
        raise CniError(
            BAD_ENVIRONMENT, "required env variables [{}] missing".format(",".join(sorted(missing)))
        )
    container = os.environ.get("CNI_CONTAINERID", "")
    if "CNI_CONTAINERID" in NEEDED[command] and not _is_plain(container):
        raise CniError(
            BAD_ENVIRONMENT,
            f"CNI_CONTAINERID is {container[:200]!r}: it must be letters, digits, '_', '.', '-'",
        )
    interface = os.environ.get("CNI_IFNAME", "")
    if "CNI_IFNAME" in NEEDED[command] and not _is_interface(interface):
        raise CniError(BAD_ENVIRONMENT, f"CNI_IFNAME is {interface[:200]!r}: no interface")


def _is_plain(name: str) -> bool:
    """Whether the specification allows this as the name of a container or a network."""
    rest = name.replace("_", "a").replace(".", "a").replace("-", "a")
    return name[:1].isalnum() and rest.isalnum() and max(name) < "\x80"


def _is_interface(name: str) -> bool:
    legal = not any(letter in "/:" or letter.isspace() for letter in name)
    return legal and 0 < len(name.encode("utf-8", "replace")) < 16 and name not in (".", "..")


def _read_input() -> "dict[str, Any]":
    data = b""
    while len(data) <= MOST_INPUT:
        more = os.read(0, 65536)
        if not more:
            break
        data += more
    if len(data) > MOST_INPUT:
        raise CniError(UNDECODABLE, f"the network configuration has more than {MOST_INPUT} bytes")
    try:
        given = _decode(data)
    except ValueError as error:
        raise CniError(UNDECODABLE, f"the network configuration is no JSON: {error}") from None
    if not isinstance(given, dict):
        raise CniError(UNDECODABLE, "the network configuration is no JSON object")
    return given


class _Scan:
    """What the scanner of `json` in C asks for; it does not need the module in Python then."""

    strict = True
    object_hook = None
    object_pairs_hook = None

    @staticmethod
    def parse_float(text: str) -> "int | float":
        return _number(text)

    @staticmethod
    def parse_constant(text: str) -> "NoReturn":
        raise ValueError(f"{text} is no number in JSON")

    parse_int = parse_float


def _decode(data: bytes) -> "Any":
    """JSON as Go's plugins take it. Raises ValueError."""
    text = data.decode("utf-8", "replace").strip(" \t\r\n")
    try:
        from _json import make_scanner

        value, end = make_scanner(_Scan)(text, 0)  # type: ignore[arg-type]
        if end == len(text):
            return value
    except (ImportError, AttributeError, StopIteration, SystemError, ValueError):
        # A fault in the text (the scanner alone cannot say which: SystemError), or a Python that
        # has no such scanner.
        pass
    from json import loads

    return loads(
        text,
        parse_int=_Scan.parse_int,
        parse_float=_Scan.parse_float,
        parse_constant=_Scan.parse_constant,
    )


def _number(text: str) -> "int | float":
    """A number that is written again as Go writes it: without a fraction if it has none."""
    value = float(text)
    if value - value != 0:
        raise ValueError(f"{text[:50]} is too large a number")
    if abs(value) >= 1e21:
        return value
    if len(text) < 22 and text.lstrip("-").isdigit():
        return int(text)
    return int(value) if value == int(value) else value


def _object(data: bytes) -> "dict[str, Any]":
    """A JSON object; an empty one for everything else."""
    try:
        found = _decode(data)
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


# --- subnet.env (flannel-compat 10.3, and what dotenv files may hold) -------------------------


def _subnet_env(network: Network, wait: float) -> "dict[str, list[str]]":
    """What the agent wrote, checked; waits for it. Raises CniError with the agent's own reason."""
    import time

    deadline = time.monotonic() + wait
    while True:
        try:
            data = _read(network.subnet_file, MOST_ENV)
            if data is not None:
                return _checked(_statements(data.decode("utf-8", "replace")), network.subnet_file)
            problem = CniError(TRY_AGAIN, f"{network.subnet_file} is not there")
        except CniError as error:
            problem = error
        if time.monotonic() >= deadline:
            break
        time.sleep(LOOK_SECONDS)
    waited = f" after {wait:g} s" if wait else ""
    says = _ask_agent(network.run_dir)
    raise CniError(problem.code, f"{problem.message}{waited}: {says}")


def _statements(text: str) -> "dict[str, str]":
    """The values of our keys; a line that is no statement counts as absent."""
    values = {}
    for line in text.splitlines():
        ends = [at for at in (line.find("="), line.find(":")) if at >= 0]
        if not ends:
            continue
        key, value = line[: min(ends)].strip(), line[min(ends) + 1 :].strip()
        key = key[7:].lstrip() if key.startswith("export ") else key
        quote = value[:1]
        if quote in ("'", '"') and quote in value[1:]:
            value = value[1 : value.index(quote, 1)]
        else:
            value = (" " + value).partition(" #")[0].strip()
        values[key] = value
    return values


def _checked(values: "dict[str, str]", path: str) -> "dict[str, list[str]]":
    """Lists by key: canonical networks and subnets of the families there are, MTU, masquerade."""
    missing = []  # type: list[str]
    for either in (NETWORKS, SUBNETS, (MTU,), (IPMASQ,)):
        if not any(values.get(key) for key in either):
            missing += either
    if missing:
        raise CniError(UNDECODABLE, "{} is missing {}".format(path, ", ".join(missing)))
    found = {IPMASQ: [values[IPMASQ]]}
    for key in NETWORKS + SUBNETS:
        items = [item.strip() for item in values.get(key, "").split(",") if item.strip()]
        if key in SUBNETS and len(items) > 1:
            raise CniError(UNDECODABLE, f"{path}: {key} has more than one subnet")
        found[key] = []
        for item in items:
            network = _masked(item, 16 if "IPV6" in key else 4)
            if not network:
                raise CniError(UNDECODABLE, f"{path}: {key}={item[:100]} is no CIDR")
            if network not in found[key]:
                found[key].append(network)
    mtu = values[MTU]
    if not _is_mtu(mtu):
        raise CniError(UNDECODABLE, f"{path}: {MTU}={mtu[:100]} is no number of bytes")
    found[MTU] = [mtu]
    return found


def _is_mtu(text: str) -> bool:
    return 0 < len(text) <= 10 and not text.strip("0123456789") and int(text) < 2**32


def _masked(text: str, size: int) -> str:
    """The network of a CIDR whose addresses have `size` bytes; empty for anything else."""
    try:
        from _socket import AF_INET, AF_INET6, inet_ntop, inet_pton
    except ImportError:
        from socket import AF_INET, AF_INET6, inet_ntop, inet_pton
    family = AF_INET if size == 4 else AF_INET6
    address, _, length = text.partition("/")
    if not 0 < len(length) <= 3 or length.strip("0123456789") or int(length) > size * 8:
        return ""
    try:
        number = int.from_bytes(inet_pton(family, address), "big")
    except (OSError, ValueError):
        return ""
    host = size * 8 - int(length)
    packed = (number >> host << host).to_bytes(size, "big")
    return f"{inet_ntop(family, packed)}/{int(length)}"


def _ask_agent(run_dir: str) -> str:
    """The agent's own words about why it is not ready."""
    import socket

    path = os.path.join(run_dir, "agent.sock")
    answer = b""
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as agent:
            agent.settimeout(AGENT_SECONDS)
            agent.connect(path)
            agent.sendall(b"GET /readyz HTTP/1.0\r\n\r\n")
            while len(answer) < MOST_ENV:
                more = agent.recv(65536)
                if not more:
                    break
                answer += more
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or error
        return f"no flanneld-py answers at {path} ({why}): is it, or flanneld, running?"
    head, _, body = answer.partition(b"\r\n\r\n")
    lines = [line.strip() for line in body.decode("utf-8", "replace").splitlines()]
    if head.split(b" ")[1:2] == [b"200"]:
        return "flanneld-py is ready: has it another --subnet-file?"
    said = lines[1:] or lines or ["nothing"]
    return "flanneld-py is not ready: {}".format("; ".join(line for line in said if line))


# --- the delegate's configuration (flannel-compat 10.4) ---------------------------------------


def _completed(network: Network, env: "dict[str, list[str]]") -> "dict[str, Any]":
    """What the delegate gets."""
    conf = dict(network.delegate)
    if not isinstance(conf.get("type", ""), str) or ("type" in conf and not conf["type"]):
        raise _bad("delegate.type", conf["type"], "the name of a plugin")
    for key in ("name", "ipam"):
        if key in conf:
            where = "beside delegate" if key == "ipam" else "at the top"
            raise CniError(BAD_CONFIG, f"delegate.{key} must not be set: {key} stands {where}")
    if network.runtime is not None:
        conf["runtimeConfig"] = network.runtime
    conf["name"] = network.name
    conf.setdefault("type", "bridge")
    conf.setdefault("ipMasq", env[IPMASQ] != ["true"])
    conf.setdefault("mtu", int(env[MTU][0]))
    if conf["type"] == "bridge":
        conf.setdefault("isGateway", True)
    if network.version:
        conf["cniVersion"] = network.version
    conf["ipam"] = ipam = dict(network.ipam)
    ipam.setdefault("type", "host-local")
    ipam["ranges"] = [[{"subnet": subnet}] for key in SUBNETS for subnet in env[key]]
    ipam["routes"] = _routes(ipam.get("routes"))
    ipam["routes"] += [{"dst": dst} for key in NETWORKS for dst in env[key]]
    return conf


def _routes(given: "Any") -> "list[dict[str, Any]]":
    for route in given or [] if isinstance(given, list) or given is None else [None]:
        dst = route.get("dst") if isinstance(route, dict) else None
        if not isinstance(dst, str) or not (_masked(dst, 4) or _masked(dst, 16)):
            raise _bad("ipam.routes", given, "a list of objects with a CIDR as dst")
    return list(given or [])


def _is_delegate(conf: "Mapping[str, Any]") -> bool:
    return isinstance(conf.get("type"), str)


def _encode(value: "Any") -> bytes:
    """JSON byte for byte as Go writes it: compact, keys sorted, safe within HTML."""
    text = _json(value)
    for letter in "<>&\u2028\u2029":
        text = text.replace(letter, f"\\u{ord(letter):04x}")
    return text.encode("utf-8", "replace")


def _json(value: "Any") -> str:
    if isinstance(value, str):
        return _quoted(value)
    if isinstance(value, dict):
        return "{" + ",".join(f"{_quoted(key)}:{_json(value[key])}" for key in sorted(value)) + "}"
    if isinstance(value, (list, tuple)):
        return "[" + ",".join(map(_json, value)) + "]"
    return {None: "null", True: "true", False: "false"}[value] if _is_word(value) else repr(value)


def _is_word(value: "Any") -> bool:
    return value is None or isinstance(value, bool)


def _quoted(text: str) -> str:
    try:
        from _json import encode_basestring
    except ImportError:
        from json.encoder import encode_basestring
    return encode_basestring(text)


# --- state files ------------------------------------------------------------------------------


def _write_state(path: str, data: bytes) -> int:
    """Write a state file that is never seen in part, a crash of the machine included; open it.

    The folder need not be synced: the rename reaches the disk before whatever the delegate does.
    """
    os.makedirs(os.path.dirname(path), 0o700, exist_ok=True)
    folder, name = os.path.split(path)
    new = os.path.join(folder, f".{name}.new")  # one name each, so that kills pile up nothing
    state = os.open(new, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600)
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(state, rest) :]
    os.fsync(state)
    os.rename(new, path)
    os.lseek(state, 0, os.SEEK_SET)
    return state


def _read(path: str, most: int) -> "bytes | None":
    """A file's content; None where there is none."""
    try:
        file = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    except (FileNotFoundError, NotADirectoryError):
        return None
    try:
        data = os.read(file, most + 1)  # all of a regular file
    finally:
        os.close(file)
    if len(data) > most:
        raise CniError(IO_FAILURE, f"{path} has more than {most} bytes")
    return data


def _remove(path: str) -> None:
    try:
        os.unlink(path)
    except FileNotFoundError:
        return


# --- garbage ----------------------------------------------------------------------------------


def _states(network: Network) -> "list[tuple[str, dict[str, Any]]]":
    """Names and contents of this network's state files. One that is damaged belongs to nobody."""
    try:
        names = os.listdir(network.data_dir)
    except FileNotFoundError:
        return []
    found = []
    for name in names:
        if _is_plain(name.partition(OTHERS)[0]):
            conf = _object(_read(os.path.join(network.data_dir, name), MOST_INPUT) or b"")
            if _is_delegate(conf) and conf.get("name") == network.name:
                found.append((name, conf))
    return found


def _is_claimed(network: Network, container: str, valid: "set[tuple[str, str]]") -> bool:
    """Whether an interface in use has no state but that file (flannel's plugin made it)."""
    return any(
        one == container and not os.path.exists(os.path.join(network.data_dir, one + OTHERS + name))
        for one, name in valid
    )


def _booked(conf: "Mapping[str, Any]") -> "set[tuple[str, str]]":
    """Container and interface of every address that host-local holds for this network."""
    ipam = conf["ipam"]
    if ipam.get("type") != "host-local":
        return set()
    folder = os.path.join(str(ipam.get("dataDir") or HOST_LOCAL_DIR), conf["name"])
    try:
        names = os.listdir(folder)
    except FileNotFoundError:
        return set()
    found = set()
    for name in names:
        if not name.strip("0123456789abcdef.:"):  # an address
            words = (_read(os.path.join(folder, name), MOST_ENV) or b"").decode("latin-1").split()
            if len(words) == 2 and _is_plain(words[0]) and _is_interface(words[1]):
                found.add((words[0], words[1]))
    return found


def _released(
    conf: "dict[str, Any]", container: str, interface: str, problems: "list[str]"
) -> bool:
    variables = {"CNI_COMMAND": "DEL", "CNI_CONTAINERID": container, "CNI_IFNAME": interface}
    try:
        _run(conf, dict(variables, CNI_NETNS=""), {})
    except (CniError, DelegateFailed) as error:
        problems.append(f"{interface} of {container}: {error.message}")
        return False
    return True


# --- running the delegate ---------------------------------------------------------------------


def _find(conf: "Mapping[str, Any]") -> str:
    """The path of the delegate. Raises CniError."""
    name = conf["type"]
    if "/" in name or name in ("", ".", "..", os.path.basename(sys.argv[0])):
        raise _bad("delegate.type", name, "the name of another plugin")
    folders = [folder for folder in os.environ.get("CNI_PATH", "").split(":") if folder]
    for folder in folders:
        path = os.path.join(folder, name)
        if os.path.isfile(path):
            return path
    raise CniError(
        BAD_CONFIG,
        "the plugin {!r} is not in {} (CNI_PATH): install it there".format(
            name, ", ".join(folders)
        ),
    )


def _run_if_known(
    conf: "dict[str, Any]", variables: "dict[str, str]", extra: "dict[str, Any]"
) -> None:
    """Run a command that plugins older than CNI 1.1.0 do not know."""
    try:
        _run(conf, variables, extra)
    except DelegateFailed as error:
        if error.code != BAD_ENVIRONMENT:
            raise


def _run(
    conf: "Mapping[str, Any]",
    variables: "dict[str, str]",
    extra: "dict[str, Any]",
    data: bytes = b"",
) -> None:
    """Run the delegate with its configuration, or `data` that holds it, and something on top.

    Raises CniError, and DelegateFailed with what the delegate itself said.
    """
    plugin = _find(conf)
    given = data if data and not extra else _encode(dict(conf, **extra))
    ending, answer = _call(plugin, dict(os.environ, **variables), given)
    if ending == 0:
        return
    if _object(answer).get("code") is not None:
        raise DelegateFailed(conf["type"], answer)
    how = f"exit status {ending >> 8}" if ending >> 8 else f"signal {ending & 127}"
    raise CniError(INTERNAL, f"the plugin {plugin} ended with {how} and no reason")


def _call(plugin: str, environment: "dict[str, str]", data: bytes) -> "tuple[int, bytes]":
    """Run a plugin with `data` as its input; wait status and output. Raises CniError.

    Not by `subprocess`, whose import takes longer than everything else here.
    """
    (input_end, ours), (answers, output_end), (failures, failure_end) = (os.pipe() for _ in "ioe")
    child = os.fork()
    if child == 0:
        try:
            os.dup2(input_end, 0)
            os.dup2(output_end, 1)
            _execute(plugin, environment)
        except CniError as error:
            os.write(failure_end, error.message.encode("utf-8", "replace")[:4096])
        finally:
            os._exit(1)
    for end in (input_end, output_end, failure_end):
        os.close(end)
    with os.fdopen(ours, "wb", 0) as sink, os.fdopen(answers, "rb") as source:
        with os.fdopen(failures, "rb") as reasons:
            reason = reasons.read()  # ends when the plugin runs
        try:
            rest = memoryview(data)
            while rest:
                rest = rest[sink.write(rest) :]
        except BrokenPipeError:
            pass  # it has read enough
        sink.close()
        answer = source.read()
    _, ending = os.waitpid(child, 0)
    if reason:
        raise CniError(IO_FAILURE, reason.decode("utf-8", "replace"))
    return ending, answer


def _execute(plugin: str, environment: "Mapping[str, str]") -> "NoReturn":
    """Become the plugin; while its file is open for writing (an update), try again."""
    import errno

    try:
        from _signal import SIG_DFL, SIGPIPE, signal  # type: ignore[import-not-found]
    except ImportError:
        from signal import SIG_DFL, SIGPIPE, signal
    signal(SIGPIPE, SIG_DFL)  # Python ignores it, and that is inherited
    for tries in range(1, BUSY_TRIES + 1):
        try:
            os.execve(plugin, [plugin], environment)
        except OSError as error:
            if error.errno != errno.ETXTBSY or tries == BUSY_TRIES:
                why = error.strerror or str(error)
                raise CniError(IO_FAILURE, f"cannot run {plugin}: {why}") from None
        import time

        time.sleep(BUSY_SECONDS)
    raise AssertionError(plugin)


# --- answers ----------------------------------------------------------------------------------


def _described(error: BaseException, version: str) -> "dict[str, Any]":
    if isinstance(error, CniError):
        code, message, details = error.code, error.message, error.details
    elif isinstance(error, OSError):
        code, details = IO_FAILURE, ""
        message = "{}: {}".format(error.filename or "flannel shim", error.strerror or error)
    else:
        code, message, details = UNDECODABLE, "JSON is nested too deeply", ""
    answer = {"cniVersion": version, "code": code, "msg": _one_line(message)}
    if details:
        answer["details"] = _one_line(details)
    return answer


def _one_line(text: str) -> str:
    return "".join(letter if letter.isprintable() else " " for letter in text)[:2000]


def _introduce() -> int:
    system = os.uname()
    where = f"{system.sysname.lower()}/{system.machine}"
    known = ", ".join(SPECIFICATIONS)
    sys.stderr.write(f"CNI Plugin flannel version {VERSION} ({where}) of flanneld-py\n")
    sys.stderr.write(f"CNI protocol versions supported: {known}\n")
    return 0


def _complain(text: str) -> None:
    sys.stderr.write(f"flannel shim: {_one_line(text)}\n")


def _print(answer: "Mapping[str, Any]") -> None:
    _write(1, _encode(answer) + b"\n")


def _write(file: int, data: bytes) -> None:
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(file, rest) :]


if __name__ == "__main__":
    sys.exit(main())
