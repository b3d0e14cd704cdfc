"""Builds a copied source into a release by its recipe, in a Python or Node build; bounds its size, and makes its files
read-only.
"""

import asyncio
import os
import stat
from collections.abc import Mapping

from portway.host.app_config import Start
from portway.host.builds.build_error import BuildError
from portway.host.builds.build_sandboxes import BuildPlaces
from portway.host.builds.node_build import build_node
from portway.host.builds.node_recipe import NodeRecipe
from portway.host.builds.python_build import build_python
from portway.host.builds.recipe import Recipe
from portway.host.files import remove_tree
from portway.host.paths import Paths
from portway.host.releases.release import Release
from portway.host.sandbox.resource_limits import BUILD_LIMITS, stored
from portway.host.sandbox.walls import Walls

_LARGEST_CACHE = 2**30  # of the packages that one app has fetched


async def build(
    release: Release, recipe: Recipe, paths: Paths, variables: Mapping[str, str], walls: Walls
) -> tuple[Start, bool]:
    """Build the copied source. Return how its server is started, and whether all its packages were in a cache.

    Raises `BuildError`. `variables` are the app's own. The output of every command goes to `release.build_log`. When
    cancelled, it ends what it has started. What may run code of the app or of a package runs within `walls`.
    """
    places = BuildPlaces(release, paths, walls)
    for folder in ("log", "home", "tmp", "bin"):
        (release.directory / folder).mkdir(exist_ok=True)
    if isinstance(recipe, NodeRecipe):
        built = await build_node(release, recipe, paths, variables, places)
    else:
        built = await build_python(release, recipe, paths, variables, places)
    await asyncio.to_thread(_bound, release, paths)
    await asyncio.to_thread(_freeze, release)
    return built


def _bound(release: Release, paths: Paths) -> None:
    """Raise `BuildError` for a build that is too large. Empty the cache of the app if that is."""
    cache = paths.app_cache(release.app)
    if stored([cache]) > _LARGEST_CACHE:
        remove_tree(cache)
    size, most = stored([release.directory]) // 2**20, BUILD_LIMITS.disk_mb
    if size > most:
        raise BuildError(
            f"what it installs is too large: {size} MB of {most} MB; leave out what the server does not need"
        )


def _freeze(release: Release) -> None:
    """Make the release read-only, and its source private, because the copy kept the author's modes.

    The venv's files are links into uv's cache, so no instance may change them; who may read them stays as it is.
    """
    for root, kept in ((release.source, 0o500), (release.venv, 0o555), (release.tools, 0o555)):
        for place, folders, files in os.walk(root):
            for name in [*files, *folders]:
                path = os.path.join(place, name)
                found = os.lstat(path)
                if not stat.S_ISLNK(found.st_mode) and found.st_mode & 0o777 & ~kept:
                    os.chmod(path, found.st_mode & kept)
        if root.is_dir():
            root.chmod(root.stat().st_mode & kept)
