"""Admission: may this key make this call now, and what does it hold until it is reported?

    requests     what a gateway asks, what it is answered; values only
    lookups      the key, the quotas, the estimates as they are at this moment: two look-ups, nothing remembered
    counters     which counters a call touches and by how much; arithmetic
    holding      the holds of calls that arrive together, in one statement
    deciding     admit, admit_all, would_admit, identify
    settling     settle, release, extend, expire: the one place where holds end
    counting     counters follow events while they are folded, and are compared with them

Invariant: for each counter, used + held never passes a hard quota by an admission. Usage that is reported beyond what
was held is counted all the same and shows as overdraft. Knows nothing of prices but the estimates billing wrote.
"""

from metering.admission.deciding import TokenEnded, admit, admit_all, identify, would_admit
from metering.admission.requests import Admission, AdmissionRequest, Limit, Refusal
from metering.admission.settling import expire_holds, extend, find_hold, release, settle

__all__ = [
    "Admission",
    "AdmissionRequest",
    "Limit",
    "Refusal",
    "TokenEnded",
    "admit",
    "admit_all",
    "expire_holds",
    "extend",
    "find_hold",
    "identify",
    "release",
    "settle",
    "would_admit",
]
