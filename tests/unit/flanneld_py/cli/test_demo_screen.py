from __future__ import annotations

import io

import pytest
from rich.console import Console

from flanneld_py.cli.demo_screen import LiveScreen, PlainScreen
from flanneld_py.cli.demo_story import NodeView, Story


@pytest.fixture
def story() -> Story:
    story = Story()
    story.nodes = [
        NodeView(
            name=name,
            underlay=f"172.31.0.{number}",
            subnet=f"10.244.{number}.0/24",
            mac=f"0a:00:00:00:00:0{number}",
            pod=f"10.244.{number}.2",
        )
        for number, name in enumerate(("n1", "n2"), 1)
    ]
    story.matrix = {("n1", "n2"): 0.00123, ("n2", "n1"): None}
    done = story.begin("flannel.1 deleted on n2")
    done.result, done.details, done.held = "healed in 23 ms", ["pods ping again"], True
    failed = story.begin("etcd frozen for 4 s")
    failed.result, failed.held = "9 pings sent, 8 arrived, 2 lost", False
    story.begin("garbage put into etcd")
    return story


@pytest.mark.parametrize("width", [80, 120])
def test_live_view_shows_everything_in_place(story: Story, width: int) -> None:
    console = Console(file=io.StringIO(), width=width, height=40, force_terminal=True)
    with console.capture() as capture, LiveScreen(story, console) as screen:
        screen.show(story.steps[0])
    text = capture.get()
    for words in ("10.244.2.0/24", "1.23", "lost", "healed in 23 ms", "pods ping again", "✔", "✘"):
        assert words in text
    assert ("0a:00:00:00:00:02" in text) == (width >= 110)
    assert "garbage put into etcd" in text


def test_plain_view_prints_each_thing_once(
    story: Story, capsys: pytest.CaptureFixture[str]
) -> None:
    with PlainScreen(story) as screen:
        for step in story.steps:
            screen.show(step)
        screen.show_nodes()
        story.closing = ["the end"]
    lines = capsys.readouterr().out.splitlines()
    text = "\n".join(lines)
    assert text.count("healed in 23 ms") == 1
    assert "ok   flannel.1 deleted on n2: healed in 23 ms" in text
    assert "FAIL etcd frozen for 4 s: 9 pings sent, 8 arrived, 2 lost" in text
    assert "garbage" not in text  # it has not ended
    assert "n1 172.31.0.1 10.244.1.0/24 0a:00:00:00:00:01 10.244.1.2   pings in ms: n2 1.23" in text
    assert "n1 lost" in text
    assert lines[-1] == "the end"
    assert "\x1b" not in text
