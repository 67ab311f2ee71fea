"""What `pipeline doctor` looks at: everything that the daemon will need, asked for harmlessly, nothing changed."""

from pipeline.doctor.examination import examine
from pipeline.doctor.findings import Finding, World

__all__ = ["Finding", "World", "examine"]
