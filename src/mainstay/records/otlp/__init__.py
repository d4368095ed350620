"""Steps in the words of OpenTelemetry, both ways. Pure: what comes over a wire is decoded at the door."""

from mainstay.records.otlp.mapping import OtelSpan as OtelSpan
from mainstay.records.otlp.mapping import imported as imported
from mainstay.records.otlp.mapping import of_imported as of_imported
from mainstay.records.otlp.mapping import of_trace as of_trace
from mainstay.records.otlp.profiles import PROFILES as PROFILES
from mainstay.records.otlp.profiles import Profile as Profile
