"""Fails before it trains."""

import sys

sys.exit("the data set is missing: /data/train.csv")
