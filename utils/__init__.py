"""Floor 0: what every other room stands on.

structures   the types that the rooms exchange          errors       UserError, and how a command line ends on one
seeds        generators derived from one seed           files        atomic writing that never loses a previous file
metrics      CMC, mAP and mINP                          results      results.json, results.csv and the table
checkpoints  reading and writing weights                logging      handlers, in one place
stages       the CFAT stage that a configuration is for
plots        every picture that matplotlib draws        locks        who may write
text         names of others, printable                environment  a user whom the system does not know
compared     results.json of other runs
"""

from utils.environment import complete_environment

complete_environment()  # before anything imports torchvision or matplotlib: each package imports utils first
