"""The algorithms of the LyCORIS library (Yeh et al. 2024, arXiv 2309.14859), on every model that other methods take.

LyCORIS' modules hold the parameters and compute the update; what attaches, saves and undoes them is ours.
"""

from adapters.lycoris.method import Lycoris as Lycoris
