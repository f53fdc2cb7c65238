"""The command `tango-jit`: start, look at, end and register the servers. Other packages add commands by entry point."""

from __future__ import annotations

import json
import runpy
import sys
from importlib.metadata import entry_points, version
from pathlib import Path
from typing import Annotated

import tango
import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from devices import recording_commands, run_commands
from devices.deployment import DEFAULT_FOLDER, Deployment, servers
from devices.doctor.command import doctor
from devices.metrics import serve_metrics
from devices.registration import SERVERS, dsconfig, register
from devices.sardana.registration import CONTROLLERS, MACROS, register_sardana

app = typer.Typer(
    help="Live tomography with just-in-time denoising, as Tango devices.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
console = Console()
Folder = Annotated[Path, typer.Option("--dir", help="Folder of this installation: database, logs, who runs.")]
Instance = Annotated[str, typer.Option(help="Instance name of the servers and last part of the device names.")]
Prefix = Annotated[str, typer.Option(help="First part of the device names.")]
PrefixHere = Annotated[str | None, typer.Option(help="First part of the device names; as it runs there, else jit.")]
InstanceHere = Annotated[str | None, typer.Option(help="Instance name of the servers; as it runs there, else 1.")]


@app.command()
def up(folder: Folder = DEFAULT_FOLDER, prefix: PrefixHere = None, instance: InstanceHere = None) -> None:
    """Start an embedded Tango database and the servers on this machine."""
    deployment = Deployment(folder, prefix=prefix, instance=instance)
    with console.status("starting database and servers ..."):
        host = deployment.up()
    console.print(f"[bold]export TANGO_HOST={host}[/]")
    show_status(deployment, host)


@app.command()
def down(folder: Folder = DEFAULT_FOLDER) -> None:
    """End what `up` started."""
    ended = Deployment(folder).down()
    console.print(f"ended: {', '.join(ended)}" if ended else "nothing was running")


@app.command()
def status(folder: Folder = DEFAULT_FOLDER) -> None:
    """Show the processes that `up` started and what their devices say; exit code 1 if something is missing."""
    deployment = Deployment(folder)
    host = deployment.recorded().get("tango_host")
    if not host:
        console.print("nothing is running: `tango-jit up` starts it")
        raise typer.Exit(1)
    console.print(f"[bold]TANGO_HOST={host}[/]")
    if not show_status(deployment, host):
        raise typer.Exit(1)


def show_status(deployment: Deployment, host: str) -> bool:
    """Print a table of the processes and devices; true if all are there."""
    processes, complete = deployment.processes(), True
    table = Table("process", "pid", "device", "state", "status")
    for name in ("database", *(s.member for s in SERVERS)):
        device = deployment.devices.get(name, "")
        state, text = ("", "")
        if name not in processes:
            state, text, complete = "missing", "not running: `tango-jit up` starts it", False
        elif device:
            try:
                proxy = tango.DeviceProxy(f"tango://{host}/{device}")
                state, text = str(proxy.State()), str(proxy.Status())
            except tango.DevFailed as error:
                state, text, complete = "unreachable", error.args[0].desc.splitlines()[0], False
        table.add_row(name, str(processes[name].pid) if name in processes else "-", device, state, text)
    console.print(table)
    return complete


@app.command(context_settings={"allow_extra_args": True, "ignore_unknown_options": True})
def serve(context: typer.Context, server: str, instance: str) -> None:
    """Run one server in the foreground: detector, reconstructor, trainer, denoiser, recorder, supervisor."""
    classes = {s.member: s for s in SERVERS}
    if server not in classes:
        raise typer.BadParameter(f"expected one of {', '.join(classes)}, got {server}")
    module = servers()[classes[server].device_class]
    sys.argv = [classes[server].script, instance, *context.args]
    runpy.run_module(module, run_name="__main__", alter_sys=False)


@app.command(name="register")
def register_devices(
    prefix: Prefix = "jit",
    instance: Instance = "1",
    host: Annotated[str, typer.Option(help="Address under which the streams are published.")] = "127.0.0.1",
    file: Annotated[
        Path | None, typer.Option("--dsconfig", help="Write this file, for json2tango, instead of the database.")
    ] = None,
) -> None:
    """Write the devices into the Tango database that TANGO_HOST names; what is set there already stays."""
    if file is not None:
        file.write_text(json.dumps(dsconfig(prefix=prefix, instance=instance, host=host), indent=4) + "\n")
        console.print(f"wrote {file}: `json2tango -w -u {file}` writes it into a database", highlight=False)
        return
    need_tango_host()
    for name, server in zip(
        register(tango.Database(), prefix=prefix, instance=instance, host=host), SERVERS, strict=True
    ):
        console.print(f"{name}  served by  {server.script} {instance}")


@app.command()
def sardana(
    instance: Annotated[
        str | None,
        typer.Option("--register", help="Make them known to the server Sardana/NAME, and write its devices."),
    ] = None,
    environment: Annotated[
        Path | None, typer.Option(help="File for the environment of a new MacroServer; where it puts it by itself.")
    ] = None,
) -> None:
    """Show where our controllers and macros for Sardana are: its PoolPath and MacroPath."""
    console.print(f"PoolPath   {CONTROLLERS}\nMacroPath  {MACROS}", highlight=False, soft_wrap=True)
    if instance is not None:
        need_tango_host()
        kept = environment.resolve() if environment else None
        for kind, name in register_sardana(tango.Database(), instance, environment=kept).items():
            console.print(f"{name}  {kind}  served by  Sardana {instance}")


def need_tango_host() -> None:
    """End in words where no database is named; also looks into ~/.tangorc and /etc/tangorc."""
    if not tango.ApiUtil.get_env_var("TANGO_HOST"):
        console.print("TANGO_HOST: expected HOST:PORT of a Tango database, it is not set")
        raise typer.Exit(1)


app.command()(recording_commands.info)
app.command()(recording_commands.convert)
app.command()(run_commands.remake)
app.command()(doctor)
app.command(name="metrics")(serve_metrics)


@app.command(name="version")
def show_version() -> None:
    """Print the version."""
    console.print(version("tango-jit"))


def main() -> None:
    """Console script tango-jit: our commands and those of the entry points `tango_jit.commands`."""
    for entry in entry_points(group="tango_jit.commands"):
        app.command(name=entry.name)(entry.load())
    try:
        app()
    except (RuntimeError, ValueError, OSError) as error:
        console.print(f"[red]tango-jit: {escape(str(error))}", highlight=False, soft_wrap=True)
        raise SystemExit(1) from error
    except tango.DevFailed as error:
        host = tango.ApiUtil.get_env_var("TANGO_HOST") or "not set"
        console.print(
            f"[red]tango-jit: {error.args[-1].desc or error.args[0].desc} (TANGO_HOST: {host})", highlight=False
        )
        raise SystemExit(1) from error


if __name__ == "__main__":
    main()
