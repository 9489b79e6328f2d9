"""The numbers that the paper prints, in per cent.

"Robust Loss Functions: Defense Mechanisms for Deep Architectures" by Vu and Tran,
Section III and Tables II and III; one seed each, PGD-100 on MNIST's 10,000 test images.
"""

# Of each network: accuracy under attack, natural accuracy.
ACCURACY = {
    "undefended": (0.27, 99.13),
    "hinge": (64.97, 91.04),
    "softmax": (88.98, 97.73),
    "lmcl_m0.1": (89.93, 98.28),
    "lmcl_m0.3": (91.95, 98.04),
    "lmcl_m0.5": (90.53, 97.28),
    "lmcl_m1.11": (90.25, 97.66),
}
# TRANSFER[attacker][defender]: accuracy of the defender on the attacker's images.
TRANSFER = {
    "hinge": {"hinge": 64.97, "softmax": 96.26, "lmcl_m0.3": 95.9},
    "softmax": {"hinge": 85.53, "softmax": 88.98, "lmcl_m0.3": 94.74},
    "lmcl_m0.3": {"hinge": 85.45, "softmax": 95.53, "lmcl_m0.3": 91.95},
}
