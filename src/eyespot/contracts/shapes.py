"""The one legend of dimension letters, and the tensor types that annotations are written with.

==  ==========================================  ==  ==========================================
T   packed tokens of a step                     P   packed patches
D   decoder width                               E   encoder width
H   query heads                                 C   channels per head
K   key/value heads                             F   features of a raw patch
V   vocabulary                                  M   media items
A   position axes                               N   media embeddings after the connector
S   segments                                    Q   action steps or learned queries
B   equal-length batch                          G   experts
L   layers
==  ==========================================  ==  ==========================================

Public functions annotate tensors, ``Float[Tensor, "T D"]``; the annotations are checked under pytest
(jaxtyping + beartype) and free in production. Inside a function that reshapes more than once, names
carry the letters: ``q_THC``.
"""

from jaxtyping import Bool, Float, Int, UInt8
from torch import Tensor

__all__ = ["Bool", "Float", "Int", "Tensor", "UInt8"]
