"""What every package may import; it imports none of them, and neither torch nor NumPy.

Types         structures   the records, batches and metrics that packages exchange
              stages       the table of CFAT's stages         stage_identity   what determines a stage's weights
Files         files        open, read, write atomically       locks            one run at a time in a directory
              checkpoints  load and save                      checkpoint_integrity, state_dicts   what a file holds
              images       read_image                         image_integrity, image_depth, image_listing
              image_inputs images from Python                 preprocessing    from an image to what a model takes
              feature_files   features, by rows
              yaml_reader  YAML within bounds                 escaping         printable text, CSV cells
Processes     distributed  ranks, small collectives           sharding         how processes share a batch
              devices      pick_device                        lost_processes   which process ended
              openmp       sharing_cores                      shared_memory    between processes
              workers      of a loader or a pool
Programs      errors       UserError, did_you_mean            command_line     argument parser, exit status
              logging      handlers                           progress         bars on a terminal
              tables       aligned, Markdown                  seeds            RNGs derived from one SEED
              extensions   compiled code that may be missing  environment      users without a home directory
Metrics       metrics      CMC, mAP, mINP, re-ranking, verification
"""

from utils.environment import complete_environment

# Before torch, torchvision or matplotlib is imported; every package imports utils first.
complete_environment()
