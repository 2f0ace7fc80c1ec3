def read_csv(root_dir, faults, *, file, seed, train_share):
    raise NotImplementedError
