"""The pages that describe what the code offers are what the code offers."""

from pathlib import Path

import msgspec
import pytest
import typer
from typer.core import TyperGroup
from typer.main import get_command

from devices.base import Door
from devices.cli import app
from sim import scenario
from sim.demo import demo
from sim.simulate import simulate
from tango_jit.services.slices import denoiser_signals, reconstructor_signals
from tools import device_reference

CLI_PAGE = Path(__file__).resolve().parents[2] / "docs" / "reference" / "cli.md"
SCENARIOS_PAGE = CLI_PAGE.with_name("scenarios.md")
TABLES = {
    "Top level": (scenario.Scenario,),
    "[scanner]": (scenario.Scanner,),
    "[beam]": (scenario.Beam,),
    "[camera]": (scenario.Camera,),
    "[[solid]]": (scenario.Cylinder, scenario.Tablet, scenario.Ellipsoid),
    "[[granules]]": (scenario.Granules,),
    "[[bubbles]]": (scenario.Bubbles,),
}


def test_the_committed_page_is_what_the_tool_writes() -> None:
    assert device_reference.PAGE.read_text() == device_reference.page(), "run: python -m tools.device_reference"


@pytest.mark.parametrize("door", device_reference.DOORS, ids=lambda door: door.__name__)
def test_everything_of_a_device_is_listed(door: type[Door]) -> None:
    chapter = "\n".join(device_reference.chapter(door))
    assert door.service_class is not None
    names = {signal.name for signal in door.service_class.table()}
    names |= {name for name in vars(door) if name[0].isupper()} - {"TangoClassClass", "TangoClassName"}
    assert len(names) > 8
    assert [name for name in sorted(names) if f"\n| `{name}` |" not in chapter] == []


@pytest.mark.parametrize("signals", [reconstructor_signals, denoiser_signals])
def test_attributes_of_slices_are_listed(signals: device_reference.OfASlice) -> None:
    page = device_reference.page()
    assert [s.name for s in signals("n") if f"\n| `{s.name[:-1]}<n>` |" not in page] == []


def test_a_changed_signal_changes_the_page(monkeypatch: pytest.MonkeyPatch) -> None:
    door = device_reference.DOORS[1]
    before = "\n".join(device_reference.chapter(door))
    assert door.service_class is not None
    monkeypatch.setattr(door.service_class, "SIGNALS", door.service_class.SIGNALS[1:])
    after = "\n".join(device_reference.chapter(door))
    assert "`update_every`" in before
    assert "`update_every`" not in after


def test_every_command_and_option_is_on_the_page() -> None:
    page = CLI_PAGE.read_text()
    added = typer.Typer(add_completion=False)
    for command in (demo, simulate):  # these come by entry point
        added.command()(command)
    commands = {}
    for group in (get_command(app), get_command(added)):
        assert isinstance(group, TyperGroup)
        commands |= group.commands
    assert {"up", "demo", "simulate", "convert"} <= set(commands)
    missing = []
    for name, command in commands.items():
        _, found, section = page.partition(f"\n## tango-jit {name}\n")
        options = {option for parameter in command.params for option in parameter.opts if option.startswith("--")}
        missing += [name] if not found else []
        missing += [f"{name} {option}" for option in options if f"`{option}" not in section.partition("\n## ")[0]]
    assert missing == []


@pytest.mark.parametrize("table", TABLES)
def test_every_key_of_a_scenario_is_on_the_page(table: str) -> None:
    page = SCENARIOS_PAGE.read_text()
    section = page.partition(f"\n## {table}\n")[2].partition("\n## ")[0]
    keys = {field.name for kind in TABLES[table] for field in msgspec.structs.fields(kind)}
    tables = {"scanner", "beam", "camera", "materials", "solid", "granules", "bubbles"}
    assert [key for key in sorted(keys) if f"`{key}`" not in section and key not in tables] == []
    assert [
        key for key in sorted(keys & tables) if f"\n## [{key}]\n" not in page and f"\n## [[{key}]]\n" not in page
    ] == []
