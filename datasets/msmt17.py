def read_msmt17(root_dir, faults, *, version="auto", with_val=True):
    raise NotImplementedError
