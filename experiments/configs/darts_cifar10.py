"""The config 'darts_cifar10' of the package as a file; see `dnas.configs.darts_cifar10`."""

from dnas.configs.darts_cifar10 import get_config as get_config
