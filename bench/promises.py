"""What is promised, and whether a measurement keeps it: every promise with its "must" and its "aim".

A promise is measured in several rows. A row may carry limits of its own (memory is promised relative to jemalloc's);
what could not be measured says why and counts as neither pass nor short.
"""
from dataclasses import asdict, dataclass

PASS, SHORT, NOT_MEASURED = "pass", "short", "not measured"


@dataclass(frozen=True)
class Promise:
    what: str
    must: float
    aim: float
    unit: str


PROMISES = {
    "P1": Promise("stacks=none, against the fastest peer", 1.0, 0.85, "x"),
    "P2": Promise("stacks=none, realloc and cpp, against the fastest peer", 1.0, 0.9, "x"),
    "P3": Promise("every call path, against plain glibc", 1.0, 0.8, "x"),
    "P4": Promise("every call path, real programs, against plain glibc", 1.05, 0.95, "x"),
    "P5": Promise("stacks=none, programs without scopes, against jemalloc", 1.03, 1.0, "x"),
    "M1": Promise("peak RSS, every call path (1.3 x jemalloc's + 8 MiB; aim 1.1 x + 4)", None, None, "MiB"),
    "M2": Promise("recording, summary level", 16, 4, "MiB"),
    "M3": Promise("recording at full level, a malloc+free pair", 4, 2, "bytes"),
    "S1": Promise("preloading into true", 3, 1, "ms"),
    "S2": Promise("marker, entered and left", 30, 10, "ns"),
    "S3": Promise("threads: cost per operation against one thread", 1.1, 1.05, "x"),
    "R1": Promise("fa-report on an engine's recording", 2, 0.5, "s"),
    "R1 RSS": Promise("fa-report on an engine's recording, peak RSS", 300, 300, "MiB"),
    "R2": Promise("fa-report on a full recording of 100 M events", 60, 20, "s"),
    "R2 RSS": Promise("fa-report on a full recording, peak RSS", 500, 500, "MiB"),
    "X1": Promise("wrong call paths among those re-verified", 0, 0, ""),
}


@dataclass
class Result:
    promise: str
    row: str
    unit: str
    measured: float = None
    low: float = None
    high: float = None
    must: float = None
    aim: float = None
    state: str = NOT_MEASURED
    aim_state: str = NOT_MEASURED
    why: str = ""

    @classmethod
    def of(cls, promise, row, measured, low=None, high=None, must=None, aim=None):
        given = PROMISES[promise]
        must, aim = given.must if must is None else must, given.aim if aim is None else aim
        return cls(promise, row, given.unit, measured, low, high, must, aim, judge(measured, must), judge(measured, aim))

    @classmethod
    def missing(cls, promise, row, why, state=NOT_MEASURED):
        given = PROMISES[promise]
        return cls(promise, row, given.unit, must=given.must, aim=given.aim, state=state, aim_state=state, why=why)

    def line(self):
        head = f"  {self.promise:<7}{self.row:<34}"
        if self.measured is None:
            return f"{head}{self.state}: {self.why}"
        spread = f" ({figure(self.low)} to {figure(self.high)})" if self.low is not None else ""
        return (f"{head}{figure(self.measured)} {self.unit}{spread:<20} must {figure(self.must)} {self.state:<6}"
                f" aim {figure(self.aim)} {self.aim_state}")

    def as_dict(self):
        return asdict(self)


def judge(measured, limit):
    return PASS if measured <= limit else SHORT


def figure(value):
    """Three digits, as people write them."""
    if value is None:
        return "–"
    if value >= 100 or value == int(value):
        return f"{value:,.0f}"
    return f"{value:.3g}" if value < 1 else f"{value:.2f}" if value < 10 else f"{value:.1f}"
