"""The config 'digits' of the package as a file; see `dnas.configs.digits`."""

from dnas.configs.digits import get_config as get_config
