"""The config 'darts_language' of the package as a file; see `dnas.configs.darts_language`."""

from dnas.configs.darts_language import get_config as get_config
