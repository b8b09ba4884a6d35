"""Static files under names that carry a digest, so that browsers may keep them for ever."""

from whitenoise.storage import CompressedManifestStaticFilesStorage


class StaticFilesStorage(CompressedManifestStaticFilesStorage):
    """A file that a stylesheet of a package names and does not ship is no reason to fail."""

    manifest_strict = False
