def read_folder(root_dir, faults, *, directories, pattern, seed, train_share):
    raise NotImplementedError
