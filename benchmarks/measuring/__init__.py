"""What benchmarks of speed have in common: the machine, the work that counts, and what workers did.

They find nothing that an earlier process has compiled: whatever imports this measures compiling, too.
"""

import os

os.environ["VTUNE_CACHE"] = "off"
