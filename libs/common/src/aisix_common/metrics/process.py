"""What the kernel says of this process, under the names every Prometheus client uses."""

from .families import Family


class ProcessMetrics:
    """Reads `process_cpu_seconds_total`, `_resident_memory_bytes`, `_open_fds`, `_max_fds`, `_start_time_seconds`."""

    def collect(self) -> list[Family]:
        """The numbers now; a number this system does not tell is left out."""
        raise NotImplementedError
