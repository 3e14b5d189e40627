"""The families a twin can have. A new family is one more module and one more row."""

from models.train import smolvlm

FAMILIES = {"smolvlm": smolvlm.FAMILY}
