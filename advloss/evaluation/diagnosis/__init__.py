"""Whether a network's accuracy under attack can be trusted: the experts' checks.

    diagnosis = diagnose(classifier, images, labels, epsilon=0.3)
    print(diagnosis)

docs/diagnosis.md says what each check means and where it is from.
"""

from advloss.evaluation.diagnosis.check import Check
from advloss.evaluation.diagnosis.front import diagnose
from advloss.evaluation.diagnosis.verdict import Diagnosis

__all__ = ["Check", "Diagnosis", "diagnose"]
