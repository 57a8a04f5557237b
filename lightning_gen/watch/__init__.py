"""The health of a run, judged by pure functions over the stream of its own numbers; no torch, no Lightning.

Live, a callback hands each record to `Watch.observe`; offline, `lgen watch` replays a log by the same rules. A run's
log holds by default every fifth of the checks that were made live, so a loss may be noticed somewhat later in it.
"""

from lightning_gen.watch.record import Record, Rule, Severity, Verdict
from lightning_gen.watch.watch import Outcome, Watch, replay, standard
from lightning_gen.watch.way_back import Place, way_back

__all__ = ["Outcome", "Place", "Record", "Rule", "Severity", "Verdict", "Watch", "replay", "standard", "way_back"]
