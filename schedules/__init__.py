"""When each operation runs: schedules as checked values."""
