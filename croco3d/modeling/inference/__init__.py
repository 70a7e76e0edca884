"""The same networks in the layouts that run fastest: prepacked products, cheaper convolutions."""

from .optimize import FastInference as FastInference
