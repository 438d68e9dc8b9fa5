"""The config 'language' of the package as a file; see `dnas.configs.language`."""

from dnas.configs.language import get_config as get_config
