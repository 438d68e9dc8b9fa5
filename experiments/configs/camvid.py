"""The config 'camvid' of the package as a file; see `dnas.configs.camvid`."""

from dnas.configs.camvid import get_config as get_config
