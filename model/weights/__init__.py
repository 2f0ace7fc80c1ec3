"""Weights from files into models. Read load.py first: load_model, and load_initial_weights of a training stage.

load                 the two calls, and the check of all stages' initial weights before the first is trained
model_file           1. reads a checkpoint: the state dict of its model and the configuration that it keeps
state_dicts             finds that state dict among the entries and prefixes of the file
hub                     the same for a name of the Hugging Face hub
architecture         2. tells which model it is, as keys of a configuration
file_kinds              the kinds of backbones that are known, file_kind: what each must say; vit_files, resnet_files
pixel_stats          3. chooses which pixel mean and deviation to use
strict               4. loads by name and shape; a difference is an error
pretrained           2. to 4. for pretrained backbones, whose position embeddings are resized (position_embeddings)
"""
