"""What every process of `command_line.start_hkd` has as it begins: imported once, by their server."""

# ruff: noqa: F401

import gc

import accelerate.tracking

import hkdcli.distill.online
import hkdcli.distill.refine
import hkdcli.predicting
import hkdcli.reporting.page
from hkdcli.models.adapters import attach_lora
from hkdcli.models.loading import load_model
from hkdcli.scenes.pretrained import model_folder

# transformers imports the classes of a model, and peft the layers of an adapter, when they are first used.
attach_lora(load_model(model_folder("small")).model, rank=1, alpha=1)
gc.collect()
gc.freeze()
