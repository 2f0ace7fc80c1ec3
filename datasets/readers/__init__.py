"""Readers: from the files of a data set to its records (utils.structures.DatasetSplits).

A reader is a file with `read(cfg, root, errors) -> DatasetSplits` and a line in registry.READERS. It builds on

locate        finds the data set's directory below DATASETS.ROOT_DIR
file_errors   FileErrors collects the errors of single files, which are left out
validation    counts, and checks of every data set that was read
market_layout reads a directory in Market-1501's layout, which many data sets share
"""
