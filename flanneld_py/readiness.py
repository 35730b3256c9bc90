"""Readiness of the kernel: is the node itself programmed as far as its pods need it?

A question to the reconciler that `progress` and `overview` both ask. Changes nothing.
"""

from __future__ import annotations

from backends.elements import Element, Sysctl
from flanneld_py.reconcile.loop import Reconciler
from flanneld_py.reconcile.tracker import NODE


def lacking(reconciler: Reconciler) -> str:
    """What of the node's own elements is missing, and why; empty when nothing that matters is."""
    tracker = reconciler.tracker
    plan = tracker.plan_of(NODE)
    if not plan:
        return "the kernel is not programmed yet"
    failing = None
    for element in plan:
        key = element.key
        if tracker.observed.get(key) == tracker.desired.get(key):
            continue
        failing = reconciler.retries.all() if failing is None else failing
        if key in failing and not _matters(element):
            continue
        why = failing[key].reason if key in failing else "about to be done"
        return f"the kernel lacks {element.describe()}: {why}"
    return ""


def _matters(element: Element) -> bool:
    """Whether pods suffer when the kernel refuses it.

    Of the settings only forwarding. Others are precautions, and absent where the host has no IPv6;
    what cannot be set is named in log and status, and stops nobody.
    """
    return not isinstance(element, Sysctl) or element.name.rsplit("/", 1)[-1] in _FORWARDING


_FORWARDING = ("ip_forward", "forwarding")
