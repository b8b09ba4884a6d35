"""The demo world: three organisations with two months behind them, made through the same verbs as real ones.

`stories` says who they are, `history` what they used, `offers` what is sold, `world` makes it all. For one day it is
always the same world, and an interrupted making is completed by the next.
"""
