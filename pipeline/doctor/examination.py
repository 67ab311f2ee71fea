"""The whole examination: what is here first, then everybody else at once, each with a limit of its own."""

import trio

from pipeline.config import BackendConfig, Config
from pipeline.doctor import here, there
from pipeline.doctor.findings import Finding, World, secrets_of
from pipeline.tools.scrub import scrub

AT_ONCE = 8  # back ends asked


async def examine(config: Config, world: World | None = None) -> list[Finding]:
    """Look at everything and change nothing; what is said holds no secret of the configuration."""
    world = world or World()
    daemon = here.running(config)
    found = [_configuration(config), *here.folders(config, world), here.index(config)]
    if daemon is not None:
        found.append(Finding("daemon", True, f"process {daemon.pid} ({daemon.process}) since {daemon.since}"))
    found += [
        await here.port(config, daemon),
        here.tokens(config),
        here.own_clock(world) or await there.clock(config, world),
    ]
    found += [await there.store(config, world), *await _backends(config, world)]
    secrets = tuple(secrets_of(config))
    return [Finding(one.name, one.ok, scrub(one.message, secrets)) for one in found]


def _configuration(config: Config) -> Finding:
    if config.source is None:
        return Finding("configuration", True, "no pipeline.yaml here: the defaults; `pipeline init` writes one")
    return Finding("configuration", True, str(config.source))


async def _backends(config: Config, world: World) -> list[Finding]:
    wishes, troubles = there.wishes(config)
    places = trio.Semaphore(AT_ONCE)
    told: dict[str, list[Finding]] = {}

    async def ask(name: str, settings: BackendConfig) -> None:
        async with places:
            mine = [wish for wish in wishes if name in wish.backends]
            told[name] = await there.backend(name, settings, mine, world)

    async with trio.open_nursery() as nursery:
        for name, settings in config.backends.items():
            nursery.start_soon(ask, name, settings)
    return [finding for name in config.backends for finding in told[name]] + troubles
