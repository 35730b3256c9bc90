from __future__ import annotations

from typing import Any

import pytest

from flanneld_py.cni.chained import decode, is_marked, marked, others_in, with_others


def chain(*types: str) -> dict[str, Any]:
    return {"name": "cbr0", "plugins": [{"type": kind} for kind in types]}


def types(conflist: dict[str, Any]) -> list[str]:
    return [plugin["type"] for plugin in conflist["plugins"]]


OURS = marked(chain("bridge", "portmap"))


@pytest.mark.parametrize(
    ("seen", "wanted"),
    [
        (["bridge", "portmap"], ["bridge", "portmap"]),
        (["bridge", "portmap", "istio-cni"], ["bridge", "portmap", "istio-cni"]),
        (["bridge", "mesh", "portmap"], ["bridge", "mesh", "portmap"]),
        (["first", "bridge", "portmap"], ["first", "bridge", "portmap"]),
        (["bridge", "a", "b", "portmap", "c"], ["bridge", "a", "b", "portmap", "c"]),
        (["bridge", "mesh"], ["bridge", "mesh", "portmap"]),
        (["flannel", "portmap", "istio-cni"], ["bridge", "portmap", "istio-cni"]),
        (["flannel", "mesh", "portmap"], ["bridge", "mesh", "portmap"]),
        ([], ["bridge", "portmap"]),
    ],
)
def test_plugins_of_others_stay_where_they_are(seen: list[str], wanted: list[str]) -> None:
    merged = with_others(OURS, chain(*seen))
    assert types(merged) == wanted
    assert with_others(OURS, merged) == merged
    assert merged["flanneld-py"] == OURS["flanneld-py"]


def test_all_of_their_plugin_is_kept() -> None:
    theirs = {"type": "istio-cni", "log_level": "info", "kubernetes": {"kubeconfig": "/x"}}
    seen = {**OURS, "plugins": [*OURS["plugins"], theirs]}
    assert with_others(OURS, seen)["plugins"][-1] == theirs
    assert others_in(seen) == ("istio-cni",)


def test_what_we_want_no_more_goes() -> None:
    seen = marked(chain("bridge", "bandwidth", "portmap"))
    seen["plugins"].insert(2, {"type": "mesh"})
    assert types(with_others(OURS, seen)) == ["bridge", "mesh", "portmap"]


def test_ours_in_another_state_is_drift() -> None:
    seen = {**OURS, "plugins": [{"type": "bridge", "mtu": 9}, {"type": "portmap"}]}
    assert with_others(OURS, seen) == OURS


@pytest.mark.parametrize("mark", [None, 1, [], {}, {"plugins": "x"}, {"plugins": [1, []]}])
def test_a_mark_that_somebody_spoilt(mark: object) -> None:
    seen = {**chain("bridge", "mesh"), "flanneld-py": mark}
    assert types(with_others(OURS, seen)) == ["bridge", "mesh", "portmap"]


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "[" * 100_000, '{"plugins": [1]}', '{"plugins": 1}']
)
def test_what_is_no_conflist(text: str) -> None:
    assert decode(text) is None
    assert not is_marked(text)
    assert with_others(OURS, decode(text)) == OURS
