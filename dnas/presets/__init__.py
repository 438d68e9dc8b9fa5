"""Published searches, as choices of parts with the papers' numbers."""

from collections.abc import Callable, Mapping

from dnas.presets.preset import Preset
from dnas.presets.progressive import drnas, p_darts
from dnas.presets.published import (
    beta_darts,
    darts,
    darts_minus,
    darts_plus,
    darts_pt,
    darts_second_order,
    dnas,
    fair_darts,
    gdas,
    i_darts,
    lambda_darts,
    oles,
    pc_darts,
    r_darts,
    random_weight_sharing,
    sdarts_adv,
    sdarts_rs,
    single_level,
    snas,
)
from dnas.presets.stages import Stage

__all__ = [
    "PRESETS",
    "Preset",
    "Stage",
    "beta_darts",
    "darts",
    "darts_minus",
    "darts_plus",
    "darts_pt",
    "darts_second_order",
    "dnas",
    "drnas",
    "fair_darts",
    "gdas",
    "i_darts",
    "lambda_darts",
    "oles",
    "p_darts",
    "pc_darts",
    "r_darts",
    "random_weight_sharing",
    "sdarts_adv",
    "sdarts_rs",
    "single_level",
    "snas",
]

# What a config's key `preset` may name.
PRESETS: Mapping[str, Callable[..., Preset]] = {
    make.__name__: make
    for make in (
        dnas,
        darts,
        darts_second_order,
        snas,
        gdas,
        pc_darts,
        p_darts,
        fair_darts,
        darts_minus,
        drnas,
        sdarts_rs,
        sdarts_adv,
        r_darts,
        darts_plus,
        darts_pt,
        beta_darts,
        lambda_darts,
        i_darts,
        oles,
        single_level,
        random_weight_sharing,
    )
}
